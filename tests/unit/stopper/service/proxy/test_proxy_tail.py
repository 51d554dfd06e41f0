"""The tail of a stream is held back until the report is in it; all else passes as it is."""

from __future__ import annotations

import itertools
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stopper.service.proxy.tail import StreamTail
from stopper.wire import Report

REPORT = Report("not_stopped", "no_cue")
TEXT = b',"stopper":' + msgspec.json.encode(REPORT)
DONE = b"data: [DONE]"


def chat(number, finish=None, **more):
    choice = {"index": 0, "delta": {"content": f"t{number}"}, "finish_reason": finish}
    return {"id": "chatcmpl-1", "choices": [choice], **more}


def stream(objects, eol=b"\n", done=True):
    lines = [
        one if isinstance(one, bytes) else b"data: " + json.dumps(one).encode() for one in objects
    ]
    return b"".join(line + eol + eol for line in [*lines, *([DONE] if done else [])])


def run(chunks, style="choices", report=REPORT):
    tail, out, asked = StreamTail(style), b"", 0
    for chunk in chunks:
        out += tail.feed(chunk)
        if tail.over and not asked:
            asked = 1
            out += tail.finish(report if tail.has_end else None)
    return out + tail.finish(report if not asked and tail.has_end else None), tail


events = st.lists(
    st.sampled_from([
        b": keep-alive", chat(1), chat(2), chat(3, "stop"), chat(4, "length"),
        {"id": "chatcmpl-1", "choices": [], "usage": {"completion_tokens": 4}},
        {"error": {"message": "finish_reason [DONE]"}}, b"data: {garbage", b"data: [1,2]",
        b'data: {"choices":[{"finish_reason": "x"', b"id: 1", DONE, b"\xff\xfe",
    ]),
    max_size=8,
)  # fmt: skip


@given(events, st.sampled_from([b"\n", b"\r\n"]), st.booleans(), st.data())
def test_any_chunking_gives_the_same_and_only_the_report_is_added(objects, eol, done, data):
    whole = stream(objects, eol, done)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    edges = [0, *cuts, len(whole)]
    chunks = [whole[a:b] for a, b in itertools.pairwise(edges)]
    out, _ = run(chunks)
    assert out == run([whole])[0]
    assert out == run([whole[i : i + 1] for i in range(len(whole))])[0]
    assert out.count(TEXT) <= 1
    assert out.replace(TEXT, b"") == whole
    assert run(chunks, report=None)[0] == whole


def test_the_last_event_with_data_carries_the_report():
    usage = {"id": "chatcmpl-1", "choices": [], "usage": {"completion_tokens": 2}}
    whole = stream([chat(1), chat(2, "stop"), b": keep-alive", usage, b": keep-alive"])
    out, tail = run([whole])
    lines = out.split(b"\n\n")
    assert json.loads(lines[3].removeprefix(b"data: "))["stopper"]["decision"] == "not_stopped"
    assert lines[4:] == [b": keep-alive", DONE, b""]
    assert (tail.response_id, tail.finish_reason) == ("chatcmpl-1", "stop")


def test_nothing_is_held_before_a_finish_reason():
    tail = StreamTail("choices")
    for number in range(3):
        event = stream([chat(number)], done=False)
        assert tail.feed(event) == event
    last = stream([chat(3, "stop")], done=False)
    assert tail.feed(last) == b""
    assert tail.finish(REPORT) == last.replace(b"}\n\n", TEXT + b"}\n\n")


def test_a_text_that_only_looks_like_an_end_is_not_held():
    tail = StreamTail("choices")
    event = stream([chat('"finish_reason": "stop" [DONE]')], done=False)
    assert tail.feed(event) == event
    assert not tail.over


def test_what_follows_the_end_passes():
    whole = stream([chat(1, "stop")]) + b"data: more\n\ntail without end"
    out, _ = run([whole[:40], whole[40:]])
    assert out.replace(TEXT, b"") == whole
    assert out.endswith(b"data: more\n\ntail without end")


@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed"])
def test_the_responses_api_ends_with_its_own_event(kind):
    def event(name, **more):
        data = json.dumps({"type": f"response.{name}", **more}).encode()
        return b"event: response." + name.encode() + b"\ndata: " + data + b"\n\n"

    response = {"id": "resp_1", "status": kind, "output": [{"text": "response.completed"}]}
    first = event("output_text.delta", delta="response.completed")
    whole = first + event(kind, response=response)
    out, tail = run([whole[:-9], whole[-9:]], "responses")
    assert out.replace(TEXT, b"") == whole
    found = json.loads(out.rpartition(b"data: ")[2])
    assert found["response"]["stopper"]["reason"] == "no_cue"
    assert "stopper" not in found
    assert (tail.response_id, tail.finish_reason) == ("resp_1", kind)
