"""Server-sent events in a stream of bytes, wherever the chunks are cut.

Terminators may be LF, CRLF or CR, as the WHATWG's specification has it.
"""

from __future__ import annotations

import re

MOST_BYTES = 16 << 20
"""An event beyond that is passed on as it comes, unread."""

_EOL = rb"(?:\r\n|\n|\r(?=[^\n]))"  # a CR at the end of the bytes may be half of a CRLF
_BOUNDARY = re.compile(_EOL + _EOL)
_DATA = re.compile(rb"(?:^|(?<=[\r\n]))data(?::[ ]?([^\r\n]*)|(?=[\r\n]|$))")


class EventSplitter:
    """Cuts a stream into events; nothing is lost, added or changed."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._pending = bytearray()
        self._most = most_bytes

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take a chunk in; return the events it completes, each with its blank line.

        An event of more than `most_bytes` comes in parts.
        """
        pending = self._pending
        start = max(0, len(pending) - 3)  # a boundary may have begun in the last chunk
        pending += chunk
        events, done = [], 0
        for found in _BOUNDARY.finditer(pending, start):
            events.append(bytes(pending[done : found.end()]))
            done = found.end()
        del pending[:done]
        if len(pending) > self._most:
            events.append(self.rest())
        return events

    @property
    def empty(self) -> bool:
        """Whether no part of an event is held back."""
        return not self._pending

    def rest(self) -> bytes:
        """Give up what has no end yet."""
        left = bytes(self._pending)
        self._pending.clear()
        return left


def data_of(event: bytes) -> bytes | None:
    """Return an event's data, its lines joined by LF; None without a data line."""
    lines = [found[1] or b"" for found in _DATA.finditer(event)]
    return b"\n".join(lines) if lines else None


def end_of_data(event: bytes) -> int | None:
    """Return where the last data line ends, spaces left out; None without one."""
    ends = [found.end() for found in _DATA.finditer(event)]
    return len(event[: ends[-1]].rstrip(b" \t")) if ends else None
