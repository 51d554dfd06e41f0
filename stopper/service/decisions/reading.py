"""Bodies of the stop-decision endpoint, in JSON and MessagePack, become events."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pybase64

from stopper.service.decisions import safetensors_body
from stopper.service.decisions.answers import Item, refused
from stopper.service.problems import ProblemError, refuse
from stopper.wire import MAX_BATCH, DecisionEvent, HiddenState
from stopper.wire.events import Position, RequestId

MEDIA_TYPES = {
    "application/json": "json",
    "application/msgpack": "msgpack",
    "application/x-msgpack": "msgpack",
    "application/vnd.msgpack": "msgpack",
    "application/vnd.safetensors": "safetensors",
    "application/x-safetensors": "safetensors",
}
"""What is read, and as what; the first of a kind is the one to use."""

_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_LONGEST_DETAIL = 400


# MessagePack's bytes are looked at where they lie. JSON's base64 is left to pybase64, which takes a
# small part of msgspec's time.
class _BinaryState(HiddenState, frozen=True, forbid_unknown_fields=True):
    data: memoryview  # type: ignore[assignment]


class _BinaryEvent(DecisionEvent, frozen=True, forbid_unknown_fields=True):
    hidden_state: _BinaryState | None = None


class _TextState(HiddenState, frozen=False, forbid_unknown_fields=True):  # type: ignore[misc]
    data: str  # type: ignore[assignment]


class _TextEvent(DecisionEvent, frozen=False, forbid_unknown_fields=True):  # type: ignore[misc]
    hidden_state: _TextState | None = None


class _BinaryBatch(msgspec.Struct, forbid_unknown_fields=True):
    events: Annotated[list[_BinaryEvent], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]


class _TextBatch(msgspec.Struct, forbid_unknown_fields=True):
    events: Annotated[list[_TextEvent], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]


class _LooseBatch(msgspec.Struct, forbid_unknown_fields=True):
    events: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]


class _Identity(msgspec.Struct):
    """What a refusal needs of an event that is wrong elsewhere."""

    request_id: RequestId
    position: Position


class _Format:
    """The decoders of one format."""

    def __init__(self, decoder: Any, event: Any, batch: Any) -> None:
        self.event = decoder(event)
        self.batch = decoder(batch)
        self.keys = decoder(dict[str, msgspec.Raw])
        self.loose = decoder(_LooseBatch)
        self.identity = decoder(_Identity)


_FORMATS = {
    "json": _Format(msgspec.json.Decoder, _TextEvent, _TextBatch),
    "msgpack": _Format(msgspec.msgpack.Decoder, _BinaryEvent, _BinaryBatch),
}


def read(content_type: str | None, body: bytes) -> tuple[list[Item], bool]:
    """Read a body.

    Parameters
    ----------
    content_type
        The request's header.

    Returns
    -------
    list
        Events in the body's order; in place of one that cannot be read, its refusal.
    bool
        Whether it is a batch.

    Raises
    ------
    ProblemError
        415 for another content type; 400 if the body, or its only event, cannot be read, and if an
        event of a batch has no readable `request_id` and `position`, by which it could be answered.

    """
    named = (content_type or "").partition(";")[0].strip().lower()
    kind = MEDIA_TYPES.get(named)
    if kind is None:
        refuse(
            "unsupported-media-type",
            f"Send application/json, application/msgpack or application/vnd.safetensors; got "
            f"{named[:100] or 'none'}.",
        )
    if kind == "safetensors":
        return safetensors_body.read(body)
    form = _FORMATS[kind]
    # A guess, which saves a second pass: a good body is decoded by the right decoder only.
    batch = b"events" in body[:16]
    try:
        found = (form.batch if batch else form.event).decode(body)
    except _FAULTS:
        return _read_slowly(form, body)
    events: list[Any] = found.events if batch else [found]
    return [_decoded(event) for event in events] if kind == "json" else events, batch


def _decoded(event: Any) -> Item:
    """Decode base64 in place, where there is some."""
    state = event.hidden_state
    if isinstance(state, _TextState):
        try:
            state.data = pybase64.b64decode(state.data, validate=True)  # type: ignore[assignment]
        except ValueError as error:
            return refused(event, "bad-request", f"hidden_state.data is no padded base64: {error}")
    found: DecisionEvent = event
    return found


def _read_slowly(form: _Format, body: bytes) -> tuple[list[Item], bool]:
    """Read a body that is not what it seemed to be, and say what is wrong with it."""
    try:
        batch = "events" in form.keys.decode(body)
        if not batch:
            return [_decoded(form.event.decode(body))], False
        events = form.loose.decode(body).events
    except _FAULTS as error:
        raise ProblemError("bad-request", _said(error)) from None
    return [_one(form, index, raw) for index, raw in enumerate(events)], True


def _one(form: _Format, index: int, raw: msgspec.Raw) -> Item:
    try:
        return _decoded(form.event.decode(raw))
    except _FAULTS as error:
        try:
            known = form.identity.decode(raw)
        except _FAULTS:
            refuse("bad-request", f"events[{index}]: {_said(error)}")
        return refused(known, "bad-request", _said(error))


def _said(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "It is nested too deeply."
    return str(error)[:_LONGEST_DETAIL]
