"""Files that appear complete or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from probes.errors import InputError


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of `path` when the block ends without an error.

    Raises
    ------
    InputError
        When it cannot be written, naming the path; what was there before stays.
    """
    path = Path(path)
    partial: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            partial = Path(file.name)
            yield file
            os.fchmod(file.fileno(), 0o644)  # temporary files are private by default
        partial.replace(path)
        partial = None
    except OSError as problem:
        raise InputError(f"{path}: cannot be written: {problem.strerror or problem}.") from None
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
