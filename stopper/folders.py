"""Reading and replacing a folder of files so that no reader ever meets half of one."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path


def is_empty(folder: Path) -> bool:
    """Return whether ``folder`` is a folder without entries."""
    return folder.is_dir() and next(folder.iterdir(), None) is None


def read(path: Path, limit: int) -> bytes:
    """Read a regular file of at most ``limit`` bytes that lies in its own folder.

    Raises
    ------
    OSError
        If it is missing, no regular file, too large, or a link that leads out of the folder.

    """
    real, home = path.resolve(), path.parent.resolve()
    if not real.is_relative_to(home):
        raise OSError(errno.ELOOP, "a link that leads out of its folder")
    info = real.stat()
    if not stat.S_ISREG(info.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    if info.st_size > limit:
        raise OSError(errno.EFBIG, f"{info.st_size} bytes, more than the limit of {limit}")
    with real.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) != info.st_size:
        raise OSError(errno.EIO, "changed while it was read")
    return data


def replace(target: Path, contents: Mapping[str, bytes], owned: Set[str]) -> None:
    """Put a folder with ``contents`` in place of ``target``.

    The new folder is complete on disk before two renames swap it in. Entries of the old folder
    that are not ``owned`` move along.
    """
    target = Path(os.path.abspath(target))  # noqa: PTH100 - resolve() would follow a link
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink():
        # A link to the current artifact stays a link: its goal is what gets replaced.
        target = target.resolve()
    with _scratch(target) as fresh:
        for name, data in contents.items():
            _write(fresh / name, data)
        if target.exists():
            for entry in target.iterdir():
                if entry.name not in owned:
                    _copy(entry, fresh / entry.name)
        _sync(fresh)
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old-", dir=target.parent))
            target.rename(old)
            fresh.rename(target)
            shutil.rmtree(old)
        else:
            fresh.rename(target)
        _sync(target.parent)


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.new-", dir=target.parent))
    # mkdtemp is private by default; an artifact is read by a server's user.
    fresh.chmod(0o777 & ~_umask())
    try:
        yield fresh
    finally:
        if fresh.exists():
            shutil.rmtree(fresh)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _copy(entry: Path, to: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.copytree(entry, to, symlinks=True)
    else:
        shutil.copy2(entry, to, follow_symlinks=False)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
