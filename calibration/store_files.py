"""The files of a trace store: names, atomic writing, the lock, and errors that name a part."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

from calibration import columns
from calibration.records import TraceMeta
from probes.errors import InputError
from probes.validation import parse, read_json

Result = TypeVar("Result")

META = "meta.json"
SHARD = "shard-"
AGAIN = "Delete this part (.parquet and .safetensors) and resume `stopper collect`"


def read_meta(folder: str | Path) -> TraceMeta:
    """Read a store's ``meta.json``.

    Raises
    ------
    InputError
        If it is missing, not JSON, or a field is wrong.

    """
    path = Path(folder) / META
    try:
        fields = read_json(path.read_bytes())
    except OSError as problem:
        raise InputError(
            f"{path}: {problem.strerror}. Point to a folder made by `stopper collect`"
        ) from None
    except ValueError as problem:
        raise InputError(f"{path}: not JSON ({problem}). Restore it or collect again") from None
    version = fields.get("schema_version", 1) if isinstance(fields, dict) else 1
    if isinstance(version, int) and version > 1:
        raise InputError(
            f"{path}: schema {version}, made by a newer stopper. Upgrade with "
            "`pip install --upgrade stopper`"
        )
    return parse(TraceMeta, fields, str(path), "Restore it or collect again")


def same_meta(path: Path, stored: TraceMeta, given: TraceMeta) -> None:
    """Refuse to resume with other settings; the error names the fields that differ."""
    details = _differences(stored, given, "now")
    if details:
        raise InputError(
            f"{path}: traces of another setting lie here ({details}). "
            "Collect into another folder, or with the same settings to resume"
        )


def joint_meta(folder: Path, stores: Sequence[Path]) -> TraceMeta:
    """Read the meta of stores that make up one; it must be the same in all."""
    first, *others = [(store, read_meta(store)) for store in stores or [folder]]
    for store, meta in others:
        details = _differences(first[1], meta, f"in {store.name}")
        if details:
            raise InputError(
                f"{folder}: its stores are of different settings ({details}). Move one of them "
                "away: traces of one data set are made alike"
            )
    return first[1]


def _differences(one: TraceMeta, other: TraceMeta, where: str) -> str:
    ours, theirs = one.model_dump(mode="json"), other.model_dump(mode="json")
    return "; ".join(
        f"{name} is {json.dumps(ours[name])}, {where} {json.dumps(theirs[name])}"
        for name in ours
        if ours[name] != theirs[name]
    )


def stores(folder: Path) -> list[Path]:
    """List the stores in a folder: its own, then those of its workers by number."""
    shards = [path.parent for path in folder.glob(f"{SHARD}*/{META}")]
    # By length first: shard-2 comes before shard-10.
    shards.sort(key=lambda path: (len(path.name), path.name))
    return [*([folder] if (folder / META).exists() else []), *shards]


def part_numbers(folder: Path) -> list[int]:
    """Return the numbers of the parts whose table is in place, ascending."""
    stems = [path.stem.removeprefix("part-") for path in folder.glob("part-*.parquet")]
    return sorted(int(stem) for stem in stems if stem.isdigit())


def named(path: Path, action: Callable[[str], Result]) -> Result:
    """Call ``action`` with the path of a part; a ValueError becomes an error naming the part."""
    try:
        return action(str(path))
    except ValueError as problem:
        raise InputError(f"{path}: {problem}. {AGAIN}") from None


def column(path: Path, name: str) -> list[Any]:
    """Read one column of a part."""
    return named(path, lambda place: columns.read_column(columns.open_table(place)[0], name))


def twice(path: Path, trace_id: str) -> InputError:
    """Make the error for a trace that is there before this part."""
    return InputError(f"{path}: trace_id {trace_id!r} occurs twice in the store. {AGAIN}")


def lock(folder: Path) -> IO[str]:
    """Take the store for this process; closing the file gives it back, and so does dying."""
    handle = (folder / ".lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise InputError(
            f"{folder}: another process is writing here. Wait for it, or choose another folder"
        ) from None
    return handle


def require_idle(folder: Path) -> None:
    """Refuse a store that another process is writing to."""
    if (folder / ".lock").exists():
        lock(folder).close()


def write(path: Path, data: bytes) -> None:
    """Write a file durably: it is there whole, or not at all."""
    scratch = path.with_name(f".{path.name}.tmp")
    with scratch.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    scratch.rename(path)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
