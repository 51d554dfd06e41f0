"""A store of full denoising decodes: a table in parts, so that recording can be taken up again."""

from __future__ import annotations

import re
from pathlib import Path

from calibration.denoising import DenoisingTable
from calibration.denoising_files import META
from probes.errors import InputError

_PART = re.compile(r"part-(\d{5})")


def load_store(folder: str | Path) -> DenoisingTable:
    """Read a store: a folder of parts, or one table.

    Raises
    ------
    InputError
        If nothing is recorded there, a part is damaged, or parts are of different settings.

    """
    root = Path(folder)
    if (root / META).is_file():
        return DenoisingTable.load(root)
    parts = _parts(root)
    if not parts:
        raise InputError(
            f"{root}: no recorded decodes here. Record some with `stopper diffusion collect`"
        )
    return DenoisingTable.concat([DenoisingTable.load(part) for part in parts])


def recorded(folder: str | Path) -> DenoisingTable | None:
    """Read what a store holds so far; None where there is none yet."""
    root = Path(folder)
    if not (root / META).is_file() and not _parts(root):
        return None
    return load_store(root)


def append_part(folder: str | Path, table: DenoisingTable) -> Path:
    """Write one more part; it counts once its JSON, written last, is there.

    Raises
    ------
    InputError
        If the store is one table, which has no parts, or cannot be written.

    """
    root = Path(folder)
    if (root / META).is_file():
        raise InputError(f"{root}: is one table; give another folder for recording in parts")
    parts = _parts(root)
    number = 1 + int(_PART.fullmatch(parts[-1].name)[1]) if parts else 0  # type: ignore[index]
    place = root / f"part-{number:05d}"
    table.save(place)
    return place


def _parts(root: Path) -> list[Path]:
    """List the complete parts, in order."""
    if not root.is_dir():
        return []
    found = [path for path in root.iterdir() if _PART.fullmatch(path.name)]
    return sorted(path for path in found if (path / META).is_file())
