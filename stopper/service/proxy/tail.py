"""Watches a stream of events go by and holds back its end, so that the report can be put in."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from stopper.service.proxy import insertion
from stopper.service.proxy.events import EventSplitter, data_of
from stopper.service.proxy.token_ids import TokenIds
from stopper.wire import Report

Style = Literal["choices", "responses"]
"""choices: chat and completions, whose last event is `[DONE]`. responses: the Responses API."""

_SIGN = {
    "choices": re.compile(rb'"finish_reason"\s*:\s*(?!null)\S|\[DONE\]'),
    "responses": re.compile(rb"response\.(?:completed|incomplete|failed)"),
}
"""Cheap, and true of every chunk of whole events that needs a closer look."""

_LAST = ("response.completed", "response.incomplete", "response.failed")


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    id: str | None = None
    choices: list[_Choice] = []


class _Response(msgspec.Struct):
    id: str | None = None
    status: str | None = None


class _Event(msgspec.Struct):
    type: str | None = None
    response: _Response | None = None


_chunk = msgspec.json.Decoder(_Chunk).decode
_event = msgspec.json.Decoder(_Event).decode


class StreamTail:
    """Passes a stream on, but for the last event that carries data.

    From the first event with a finish reason on, an event with data is held until the next one
    comes. What was held when the stream says that it is over gets the report.

    Parameters
    ----------
    style
        What the last event looks like.
    ids
        Of an audit: every event passes through it.

    Attributes
    ----------
    over
        The stream has said that it is: `finish` gives the rest.
    response_id, finish_reason
        As the held event has them.

    """

    def __init__(self, style: Style, ids: TokenIds | None = None) -> None:
        self._style = style
        self._ids = ids
        self._sign = _SIGN[style]
        self._splitter = EventSplitter()
        self._held: bytes | None = None
        self._after: list[bytes] = []  # behind the held event: comments, then the end itself
        self._finished = False
        self.over = False
        self.response_id: str | None = None
        self.finish_reason: str | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Take a chunk in; return what may go on now."""
        if self._finished:
            return chunk
        if (
            self._held is None
            and self._ids is None
            and self._splitter.empty
            and chunk.endswith(b"\n\n")
            and self._sign.search(chunk) is None
        ):
            return chunk
        return b"".join([self._take(event) for event in self._splitter.feed(chunk)])

    def finish(self, report: Report | None) -> bytes:
        """Return what was held back, with the report in it.

        None changes nothing: for a stream that broke off.
        """
        self._finished = True
        held, after = self._held, [*self._after, self._splitter.rest()]
        self._held, self._after = None, []
        if held is None:
            return b"".join(after)
        changed = None
        if report is not None:
            into = (
                insertion.into_event
                if self._style == "choices"
                else insertion.into_response_of_event
            )
            changed = into(held, report)
        return (changed or held) + b"".join(after)

    @property
    def has_end(self) -> bool:
        """Whether an event is held that can carry the report."""
        return self._held is not None

    def _take(self, event: bytes) -> bytes:
        if self.over:
            self._after.append(event)
            return b""
        if self._ids is not None:
            event = self._ids.take_from_event(event)
        if self._held is None and self._sign.search(event) is None:
            return event
        data = data_of(event)
        return self._choices(event, data) if self._style == "choices" else self._last(event, data)

    def _choices(self, event: bytes, data: bytes | None) -> bytes:
        if data == b"[DONE]":
            self.over = True
        chunk = None if data is None or self.over else _read_chunk(data)
        if chunk is None:  # a comment, the end, or garbage
            if self._held is None and not self.over:
                return event
            self._after.append(event)
            return b""
        reasons = [choice.finish_reason for choice in chunk.choices if choice.finish_reason]
        if self._held is None and not reasons:
            return event
        passed = b"" if self._held is None else self._held + b"".join(self._after)
        self._held, self._after = event, []
        self.response_id = chunk.id or self.response_id
        self.finish_reason = self.finish_reason or (reasons[0] if reasons else None)
        return passed

    def _last(self, event: bytes, data: bytes | None) -> bytes:
        try:
            found = None if data is None else _event(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            found = None
        if found is None or found.type not in _LAST:
            return event
        self._held, self.over = event, True
        if found.response is not None:
            self.response_id = found.response.id
            self.finish_reason = found.response.status
        return b""


def _read_chunk(data: bytes) -> _Chunk | None:
    try:
        return _chunk(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
