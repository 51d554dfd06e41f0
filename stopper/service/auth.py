"""API keys: who may do what."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from pathlib import Path

from fastapi import Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from stopper.errors import InputError
from stopper.service.key_file import SCOPES, ApiKey, Scope, read_keys
from stopper.service.problems import ProblemError

logger = logging.getLogger(__name__)

__all__ = ["SCOPES", "ApiKey", "KeyRing", "Require", "Scope", "require"]

LOOK_S = 1.0
"""Seconds between two looks at the key file."""


class KeyRing:
    """Checks API keys; without any key and without a key file everybody may do everything.

    Keys are random and long, so that a plain hash at rest gives nothing away.

    Parameters
    ----------
    keys
        In place of a file.
    file
        Read now, and again when it changes; while it cannot be read the last keys hold. An empty
        one lets nobody in.

    Attributes
    ----------
    fault
        Why the file could not be read again; None while it can.

    Raises
    ------
    InputError
        If the file is wrong now.

    """

    def __init__(self, keys: tuple[ApiKey, ...] = (), file: Path | None = None) -> None:
        self._file = file
        self._keys = keys
        self.fault: str | None = None
        self._seen: tuple[int, int, int] | None = None
        self._next = 0.0
        if file is not None:
            self._read()

    @property
    def open(self) -> bool:
        """Whether no key is needed."""
        return self._file is None and not self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def check(self, authorization: str | None, scope: Scope) -> str:
        """Return the name of the key ("anonymous" where none is needed).

        "admin" may do everything.

        Raises
        ------
        ProblemError
            401 without a known key, 403 where it may not.

        """
        if self._file is not None:
            self._look()
        elif not self._keys:
            return "anonymous"
        kind, _, token = (authorization or "").partition(" ")
        digest = hashlib.sha256(token.strip().encode()).hexdigest()
        found: ApiKey | None = None
        for key in self._keys:  # every one, whichever fits: the time tells nothing
            if hmac.compare_digest(key.sha256, digest):
                found = key
        if found is None or kind.lower() != "bearer":
            raise ProblemError(
                "unauthorized",
                "Send an API key of this sidecar as Authorization: Bearer KEY.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if scope not in found.scopes and "admin" not in found.scopes:
            raise ProblemError("forbidden", f"The key {found.name!r} lacks the scope {scope!r}.")
        return found.name

    def _look(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + LOOK_S
        try:
            self._read()
        except InputError as error:
            if self.fault is None:
                logger.error("the last API keys hold: %s", error)
            self.fault = str(error)
        else:
            self.fault = None

    def _read(self) -> None:
        assert self._file is not None
        try:
            state = self._file.stat()
        except OSError as error:
            raise InputError(
                f"{self._file}: {error.strerror}; make it by `stopper keys new NAME --file FILE`"
            ) from None
        seen = (state.st_mtime_ns, state.st_size, state.st_ino)
        if seen == self._seen:
            return
        self._keys = read_keys(self._file)
        if self._seen is not None:
            logger.warning("API keys read again: %d", len(self._keys))
        self._seen = seen


class Require(SecurityBase):
    """A dependency that gives the key's name, or answers 401, 403 or 429."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.scheme_name = "key"
        self.model = HTTPBearer(
            description="An API key of this sidecar (`stopper keys new`), where it has any."
        )

    async def __call__(self, request: Request) -> str:
        """Check one request."""
        runtime = request.app.state.runtime
        name: str = runtime.keys.check(request.headers.get("authorization"), self.scope)
        request.state.key_name = name
        if runtime.rates is not None:
            await runtime.rates.spend(name, request.client.host if request.client else "")
        return name


def require(scope: Scope) -> Require:
    """Return a dependency that gives the key's name, or answers 401, 403 or 429."""
    return Require(scope)
