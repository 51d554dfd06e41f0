"""Which requests were counted: no request twice, in bounded memory."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Literal

from pydantic import StringConstraints

from calibration.monitor.audits import Audit, Moment
from probes.validation import Record

GENERATION = 50_000
"""Request ids in each of the two generations that are remembered."""

Taken = Literal["new", "repeated", "late"]

Hashes = Annotated[str, StringConstraints(strict=True, pattern=r"^([0-9a-f]{16})*$")]


class RequestsState(Record):
    """Hashes of the two generations, end to end, with the newest time in each and before them."""

    older: Hashes = ""
    newer: Hashes = ""
    older_until: Moment | None = None
    newer_until: Moment | None = None
    forgotten_until: Moment | None = None


class Requests:
    """Remembers the last 50,000 to 100,000 request ids, as 64-bit hashes.

    Ids are forgotten a generation at a time. From then on an audit that is not newer than all
    forgotten ones may be one of them, and is told to be late.
    """

    def __init__(self, state: RequestsState | None = None) -> None:
        state = state or RequestsState()
        self._older = dict.fromkeys(_split(state.older))
        self._newer = dict.fromkeys(_split(state.newer))
        self._older_until = state.older_until
        self._newer_until = state.newer_until
        self._forgotten_until = state.forgotten_until

    def take(self, audit: Audit) -> Taken:
        """Judge one audit, and remember it if it is new."""
        key = hashlib.sha256(audit.request_id.encode()).hexdigest()[:16]
        if key in self._newer or key in self._older:
            return "repeated"
        if self._forgotten_until is not None and audit.time <= self._forgotten_until:
            return "late"
        if len(self._newer) == GENERATION:
            self._forgotten_until = _later(self._forgotten_until, self._older_until)
            self._older, self._older_until = self._newer, self._newer_until
            self._newer, self._newer_until = {}, None
        self._newer[key] = None
        self._newer_until = _later(self._newer_until, audit.time)
        return "new"

    def state(self) -> RequestsState:
        """Give what the next judgements depend on."""
        return RequestsState(
            older="".join(self._older),
            newer="".join(self._newer),
            older_until=self._older_until,
            newer_until=self._newer_until,
            forgotten_until=self._forgotten_until,
        )


def _split(hashes: str) -> list[str]:
    return [hashes[i : i + 16] for i in range(0, len(hashes), 16)]


def _later(first: datetime | None, second: datetime | None) -> datetime | None:
    known = [time for time in (first, second) if time is not None]
    return max(known, default=None)
