"""Events are cut the same wherever the chunks are, and no byte is lost."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from stopper.service.proxy.events import EventSplitter, data_of, end_of_data

streams = st.lists(
    st.sampled_from([b"data: {}", b"\n", b"\r", b"\r\n", b"\n\n", b": hi", b"x", b"\xff\x00", b""]),
    max_size=24,
).map(b"".join)


@st.composite
def cut(draw, stream=streams):
    whole = draw(stream)
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    edges = [0, *cuts, len(whole)]
    return whole, [whole[a:b] for a, b in itertools.pairwise(edges)]


def split(chunks):
    splitter = EventSplitter()
    events = [event for chunk in chunks for event in splitter.feed(chunk)]
    return events, splitter.rest()


@given(cut())
def test_any_chunking_gives_the_same_events_and_every_byte(given_stream):
    whole, chunks = given_stream
    events, rest = split(chunks)
    assert (events, rest) == split([whole[i : i + 1] for i in range(len(whole))])
    assert (events, rest) == split([whole])
    assert b"".join(events) + rest == whole


def test_each_terminator_ends_an_event():
    for eol in (b"\n", b"\r\n"):
        event = b"event: a" + eol + b"data: 1" + eol + eol
        assert split([event * 2]) == ([event, event], b"")
    # After a CR a LF may follow that belongs to it: the next byte decides.
    assert split([b"data: 1\r\rdata: 2\r\r"]) == ([b"data: 1\r\r"], b"data: 2\r\r")


def test_a_line_break_is_no_blank_line():
    assert split([b"data: 1\r\ndata: 2\r\n"]) == ([], b"data: 1\r\ndata: 2\r\n")


def test_an_event_without_end_is_passed_on_at_the_bound():
    splitter = EventSplitter(most_bytes=10)
    assert splitter.feed(b"data: 1234") == []
    assert splitter.feed(b"5") == [b"data: 12345"]
    assert splitter.empty
    assert splitter.feed(b"6\n\n") == [b"6\n\n"]


def test_data_lines_are_joined():
    event = b"event: x\r\ndata: {\r\ndata:  1}  \r\nid: 4\r\n\r\n"
    assert data_of(event) == b"{\n 1}  "
    assert event[: end_of_data(event)].endswith(b"data:  1}")
    assert data_of(b": only a comment\n\n") is None
    assert end_of_data(b"id: 1\n\n") is None
    assert data_of(b"data\n\n") == b""
    assert data_of(b"database: 1\n\n") is None
