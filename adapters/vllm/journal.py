"""The report with every request: one record each, counted, kept, and written as JSON lines."""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any, TextIO

from adapters.vllm.request_ids import Rank, RequestIds
from stopper.errors import InputError

logger = logging.getLogger(__name__)

KEPT = 10_000


class Journal:
    """Decisions of one engine.

    Parameters
    ----------
    path
        JSONL file to append to; None keeps the last `KEPT` records in memory only.

    Raises
    ------
    InputError
        If the file cannot be opened for writing.

    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: TextIO | None = None
        self._records: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._ids = RequestIds()
        self.decisions: Counter[str] = Counter()
        self.not_applied: Counter[str] = Counter()
        self.fail_open: Counter[str] = Counter()
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = path.open("a", encoding="utf-8")
            except OSError as error:
                raise InputError(
                    f"{path}: {error.strerror or error}; let 'decisions' of --additional-config "
                    "name a file that can be written"
                ) from None

    def add(self, record: dict[str, Any]) -> None:
        """Count a finished request and write it down."""
        self.decisions[record["decision"]] += 1
        if record["decision"] == "not_applied":
            self.not_applied[record["reason"]] += 1
        self._records.pop(record["request_id"], None)  # an id used again counts as newest
        self._records[record["request_id"]] = record
        self._ids.add(record["request_id"])
        while len(self._records) > KEPT:
            self._ids.discard(self._records.popitem(last=False)[0])
        if self._file is not None:
            try:
                self._file.write(json.dumps(finite(record), allow_nan=False) + "\n")
                self._file.flush()
            except OSError as error:
                self.fail_open["decisions_file"] += 1
                logger.error("stopper: %s: %s; decisions stay in memory only", self._path, error)
                with contextlib.suppress(OSError):  # what is buffered cannot be written either
                    self.close()
                self._file = None

    def count_fault(self, cause: str, times: int = 1) -> None:
        """Count something that went wrong and was survived."""
        self.fail_open[cause] += times

    def recent(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest records, newest last."""
        return list(self._records.values())[-limit:] if limit > 0 else []

    def find(self, request_id: str) -> tuple[Rank, dict[str, Any]] | None:
        """Return one request's record, by the engine's id or the response's, and how direct it is.

        Of several choices of a response the first, of the same id used again the newest.
        """
        found = self._ids.first(request_id)
        return None if found is None else (found[0], self._records[found[1]])

    def counters(self) -> dict[str, dict[str, int]]:
        """Return all counters by name and label."""
        return {
            "decisions": dict(self.decisions),
            "not_applied": dict(self.not_applied),
            "fail_open": dict(self.fail_open),
        }

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def finite(value: Any) -> Any:
    """Return the record with NaN and infinity, however deep, as None: JSON knows neither."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    return [finite(part) for part in value] if isinstance(value, list | tuple) else value
