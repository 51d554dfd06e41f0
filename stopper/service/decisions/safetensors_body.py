"""Bodies in safetensors: many hidden states as one tensor, and the events as metadata.

The file holds one tensor, `hidden_states` [n, d] in F16, BF16 or F32, and in its metadata either

- `events`: a JSON array of n objects with the fields of an event but `hidden_state`; row i is the
  hidden state of the i-th. A batch.
- `event`: one such object; n is 1. A single event.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from safetensors import SafetensorError, deserialize

from stopper.service.decisions.answers import Item
from stopper.service.decisions.hidden import SIZES, Dtype
from stopper.service.problems import refuse
from stopper.wire import MAX_BATCH, DecisionEvent, HiddenState
from stopper.wire.events import Position, RequestId

TENSOR = "hidden_states"
_DTYPES: dict[str, Dtype] = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}
_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Bare(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    request_id: RequestId
    model: str
    position: Position
    alpha: float | None = None
    audit: bool | None = None


class _Metadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    events: str | None = None
    event: str | None = None


class _Header(msgspec.Struct, frozen=True):
    metadata: _Metadata = msgspec.field(default=_Metadata(), name="__metadata__")


_Many = Annotated[list[_Bare], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]
_header = msgspec.json.Decoder(_Header)
_many = msgspec.json.Decoder(_Many)
_one = msgspec.json.Decoder(_Bare)


def read(body: bytes) -> tuple[list[Item], bool]:
    """Read a body; see `reading.read`."""
    try:
        tensors = deserialize(body)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        refuse("bad-request", f"The body is no safetensors file: {str(error)[:200]}")
    names = [name for name, _ in tensors]
    if names != [TENSOR]:
        refuse("bad-request", f"The file must hold one tensor, {TENSOR}; it holds {len(names)}.")
    held = tensors[0][1]
    bare, batch = _events(body)
    dtype, shape = _DTYPES.get(held["dtype"]), tuple(held["shape"])
    if dtype is None:
        refuse("bad-request", f"{TENSOR} is {held['dtype']}; send F16, BF16 or F32.")
    if len(shape) != 2 or shape[0] != len(bare):
        refuse(
            "bad-request",
            f"{TENSOR} has shape {list(shape)[:8]}; it must be [{len(bare)}, d], a row an event.",
        )
    width = shape[1] * SIZES[dtype]
    data = memoryview(held["data"])
    return [
        DecisionEvent(
            event.request_id,
            event.model,
            event.position,
            HiddenState(bytes(data[row * width : (row + 1) * width]), dtype, shape[1:]),
            alpha=event.alpha,
            audit=event.audit,
        )
        for row, event in enumerate(bare)
    ], batch


def _events(body: bytes) -> tuple[list[_Bare], bool]:
    # The library has checked the header, and gives no metadata of a file in memory.
    length = int.from_bytes(body[:8], "little")
    try:
        found = _header.decode(memoryview(body)[8 : 8 + length]).metadata
        if found.events is not None and found.event is None:
            return _many.decode(found.events), True
        if found.event is not None and found.events is None:
            return [_one.decode(found.event)], False
        refuse("bad-request", "__metadata__ must hold either events or event, as JSON text.")
    except _FAULTS as error:
        refuse("bad-request", f"__metadata__: {str(error)[:200] or 'nested too deeply'}")
