"""The log of audits on disk, for `stopper monitor`."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from calibration.monitor import Audit
from stopper.errors import InputError

logger = logging.getLogger(__name__)


class AuditLog:
    """Appends counted audits to a file, one JSON object a line.

    The file is opened for each batch, so that it may be moved away; a batch is one write, so that
    several processes may append to one file.

    Parameters
    ----------
    path
        Made with its folder if it is missing.

    Raises
    ------
    InputError
        If it cannot be written.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("ab").close()
        except OSError as error:
            raise InputError(
                f"{path}: {error.strerror or error}; let audits.log name a file that can be written"
            ) from None

    def append(self, audits: Iterable[Audit]) -> bool:
        """Write audits; False if they could not be written, which is logged."""
        lines = b"".join(audit.model_dump_json().encode() + b"\n" for audit in audits)
        if not lines:
            return True
        try:
            with self._path.open("ab+", buffering=0) as file:
                if file.tell() > 0:
                    file.seek(-1, 2)
                    if file.read(1) != b"\n":  # the last writer was cut off
                        lines = b"\n" + lines
                file.write(lines)
        except OSError as error:
            logger.error("%s: %s; these audits are counted, but not in the file", self._path, error)
            return False
        return True
