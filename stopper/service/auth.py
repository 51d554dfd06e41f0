"""API keys: who may do what."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fastapi import Request

from stopper.service.problems import ProblemError

Scope = Literal["read", "decide", "admin"]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it rests: its name, the SHA-256 of the key in hex, and what it may do."""

    name: str
    sha256: str
    scopes: frozenset[Scope]


class KeyRing:
    """Checks API keys; without any key everybody may do everything.

    Keys are random and long, so that a plain hash at rest gives nothing away.
    """

    def __init__(self, keys: tuple[ApiKey, ...] = ()) -> None:
        self._keys = keys

    @property
    def open(self) -> bool:
        """Whether no key is needed."""
        return not self._keys

    def check(self, authorization: str | None, scope: Scope) -> str:
        """Return the name of the key ("anonymous" where none is needed).

        "admin" may do everything.

        Raises
        ------
        ProblemError
            401 without a known key, 403 where it may not.

        """
        if not self._keys:
            return "anonymous"
        scheme, _, token = (authorization or "").partition(" ")
        digest = hashlib.sha256(token.strip().encode()).hexdigest()
        found: ApiKey | None = None
        for key in self._keys:  # every one, whichever fits: the time tells nothing
            if hmac.compare_digest(key.sha256, digest):
                found = key
        if found is None or scheme.lower() != "bearer":
            raise ProblemError(
                "unauthorized",
                "Send an API key of this sidecar as Authorization: Bearer KEY.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if scope not in found.scopes and "admin" not in found.scopes:
            raise ProblemError("forbidden", f"The key {found.name!r} lacks the scope {scope!r}.")
        return found.name


def require(scope: Scope) -> Callable[[Request], str]:
    """Return a dependency that gives the key's name, or answers 401 or 403."""

    def checked(request: Request) -> str:
        name: str = request.app.state.runtime.keys.check(
            request.headers.get("authorization"), scope
        )
        request.state.key_name = name
        return name

    return checked
