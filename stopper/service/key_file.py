"""The file of API keys: names, hashes and scopes, never a key."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import tempfile
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from stopper.errors import InputError

Scope = Literal["read", "decide", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

PREFIX = "stopper_"
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_HEAD = "# Written by `stopper keys`. It holds hashes: a lost key cannot be read from here.\n"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it rests: its name, the SHA-256 of the key in hex, and what it may do."""

    name: str
    sha256: str
    scopes: frozenset[Scope]
    created: str = ""


class _Key(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(pattern=_NAME)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[list[Scope], Field(min_length=1)]
    created: datetime


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[_Key] = []


def new_key(name: str, scopes: Iterable[str]) -> tuple[str, ApiKey]:
    """Make a key of 256 random bits.

    Returns
    -------
    tuple
        The key itself, to be shown once, and what is kept of it.

    Raises
    ------
    InputError
        If the name or a scope is wrong.

    """
    chosen = list(dict.fromkeys(scopes))
    if re.match(_NAME, name) is None:
        raise InputError(f"name {name!r}: use letters, digits, '.', '_' and '-', at most 64")
    wrong = [scope for scope in chosen if scope not in SCOPES]
    if wrong or not chosen:
        raise InputError(f"scope {', '.join(wrong) or 'missing'}: choose from {', '.join(SCOPES)}")
    key = PREFIX + secrets.token_urlsafe(32)
    kept = frozenset(scope for scope in SCOPES if scope in chosen)
    digest = hashlib.sha256(key.encode()).hexdigest()
    return key, ApiKey(name, digest, kept, datetime.now(UTC).isoformat(timespec="seconds"))


def read_keys(file: Path) -> tuple[ApiKey, ...]:
    """Read a file of keys.

    Raises
    ------
    InputError
        If it is missing or wrong, naming the field.

    """
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{file}: {error.strerror}; make it by `stopper keys new NAME --file FILE`"
        ) from None
    except ValueError as error:
        raise InputError(f"{file}: not a file of keys: {error}") from None
    return _checked(file, data)


def _checked(file: Path, data: dict[str, Any]) -> tuple[ApiKey, ...]:
    try:
        found = _File.model_validate(data)
    except ValidationError as error:
        fault = error.errors(include_input=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise InputError(f"{file}: {where}: {fault['msg']}") from None
    names = [key.name for key in found.keys]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InputError(f"{file}: the name {min(twice)!r} is there twice; revoke one")
    return tuple(
        ApiKey(key.name, key.sha256, frozenset(key.scopes), key.created.isoformat())
        for key in found.keys
    )


def write_keys(file: Path, keys: Iterable[ApiKey]) -> None:
    """Replace a file of keys, readable by its owner only.

    Raises
    ------
    InputError
        If it cannot be written.

    """
    text = _HEAD + "".join(map(to_toml, keys))
    try:
        handle, fresh = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # mode 0600
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(handle)
        Path(fresh).replace(file)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from None


def to_toml(key: ApiKey) -> str:
    """Return a key as a block of the file; no field needs escaping."""
    scopes = ", ".join(f'"{scope}"' for scope in SCOPES if scope in key.scopes)
    return (
        f'\n[[keys]]\nname = "{key.name}"\nsha256 = "{key.sha256}"\n'
        f"scopes = [{scopes}]\ncreated = {key.created}\n"
    )
