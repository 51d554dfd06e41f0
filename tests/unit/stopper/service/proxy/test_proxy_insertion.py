"""The report goes in, and no other byte changes."""

from __future__ import annotations

import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from stopper.service.proxy.insertion import into_event, into_object, into_response_of_event
from stopper.wire import Report

REPORT = Report("stopped", "score_above_threshold", 12, 2.5, 1.0, 0.05, 33.0, "0123456789abcdef")
TEXT = b'"stopper":' + msgspec.json.encode(REPORT)

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=5), values).filter(lambda one: "stopper" not in one)
written = st.builds(
    lambda one, style: json.dumps(one, **style).encode(),
    objects,
    st.sampled_from([{}, {"separators": (",", ":")}, {"ensure_ascii": False}]),
)


@given(written, st.sampled_from([b"", b"\n", b" \r\n"]))
def test_an_object_gains_the_field_and_keeps_its_bytes(text, space):
    changed = into_object(text + space, REPORT)
    comma = b"," if json.loads(text) else b""
    assert changed is not None
    assert changed.replace(comma + TEXT, b"", 1) == text + space
    assert json.loads(changed) == json.loads(text) | {"stopper": msgspec.to_builtins(REPORT)}


@given(written, st.sampled_from([b"\n", b"\r\n"]))
def test_an_event_gains_the_field_and_keeps_its_bytes(text, eol):
    event = b"event: x" + eol + b"data: " + text + eol + b"id: 7" + eol + eol
    changed = into_event(event, REPORT)
    comma = b"," if json.loads(text) else b""
    assert changed is not None
    assert changed.replace(comma + TEXT, b"", 1) == event
    assert changed.endswith(b"}" + eol + b"id: 7" + eol + eol)


@given(objects)
def test_a_response_in_an_event_gains_it(inner):
    data = json.dumps({"before": inner, "response": inner, "type": "response.completed"})
    event = b"event: response.completed\ndata: " + data.encode() + b"\n\n"
    changed = into_response_of_event(event, REPORT)
    assert changed is not None
    found = json.loads(changed.split(b"data: ", 1)[1])
    assert found["response"] == inner | {"stopper": msgspec.to_builtins(REPORT)}
    assert found["before"] == inner
    comma = b"," if inner else b""
    assert changed.replace(comma + TEXT, b"", 1) == event


def test_what_is_no_object_or_has_the_field_is_left_alone():
    for text in (b"[1]", b'"}"', b"", b"{", b"\xff{}", b'{"stopper":1}'):
        assert into_object(text, REPORT) is None
        assert into_event(b"data: " + text + b"\n\n", REPORT) is None
        assert into_response_of_event(b'data: {"response":' + text + b"}\n\n", REPORT) is None
    assert into_response_of_event(b'data: {"other":{}}\n\n', REPORT) is None
    assert into_event(b": comment\n\n", REPORT) is None
