"""Puts the report into a response; every other byte stays as it is."""

from __future__ import annotations

import msgspec

from stopper.service.proxy.events import data_of, end_of_data
from stopper.wire import Report

FIELD = "stopper"

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def into_object(text: bytes, report: Report) -> bytes | None:
    """Append the field `stopper` to a JSON object; None if it is none, or has such a field."""
    fields = _fields(text)
    if fields is None:
        return None
    return _before_last_brace(text, report, bool(fields))


def into_event(event: bytes, report: Report) -> bytes | None:
    """Append the field to the object in an event's data; None as in `into_object`."""
    data, end = data_of(event), end_of_data(event)
    fields = None if data is None else _fields(data)
    if fields is None or end is None:
        return None
    changed = _before_last_brace(event[:end], report, bool(fields))
    return None if changed is None else changed + event[end:]


def into_response_of_event(event: bytes, report: Report) -> bytes | None:
    """Append the field to the `response` in an event's data (the Responses API)."""
    data = data_of(event)
    fields = None if data is None else _fields(data)
    if fields is None or "response" not in fields:
        return None
    inner = _fields(bytes(fields["response"]))
    if inner is None:
        return None
    # The fields come in their order: so none is taken for an earlier one with the same bytes.
    end = 0
    for name, raw in fields.items():
        value = bytes(raw)
        found = event.find(value, end)
        if found < 0:  # an object over several data lines
            return None
        end = found + len(value)
        if name == "response":
            break
    changed = _before_last_brace(event[:end], report, bool(inner))
    return None if changed is None else changed + event[end:]


def _fields(text: bytes) -> dict[str, msgspec.Raw] | None:
    try:
        found = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return None if FIELD in found else found


def _before_last_brace(text: bytes, report: Report, has_fields: bool) -> bytes | None:
    end = len(text.rstrip(b" \t\r\n"))
    if text[end - 1 : end] != b"}":
        return None
    comma = b"," if has_fields else b""
    inserted = comma + b'"' + FIELD.encode() + b'":' + msgspec.json.encode(report)
    return text[: end - 1] + inserted + text[end - 1 :]
