"""Whatever bytes an answer holds, only a decision on what was asked is believed."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from remote_sidecars import VERSION, decide, packed

from adapters.vllm.remote.answers import Answer, Garbage, read_answers, read_problem
from stopper.wire import Decision, DecisionEvent, Problem

ASKED = (
    DecisionEvent("a", "model", 3, score=1.0, alpha=0.1, audit=False),
    DecisionEvent("b", "model", 5, score=1.0, alpha=0.2, audit=True),
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
GOOD = [msgspec.to_builtins(decide(event, stop=True)) for event in ASKED]


def read(*decisions: Decision, version: str | None = VERSION) -> list[Answer]:
    return read_answers(ASKED[: len(decisions)], packed(*decisions), version)


def altered(**changes: Any) -> Decision:
    return msgspec.structs.replace(decide(ASKED[0], stop=True), **changes)


def test_the_answers_come_in_the_order_of_the_events() -> None:
    decisions = [decide(event, stop=True) for event in ASKED]
    found = read(*decisions)
    assert [answer.decision for answer in found] == decisions
    assert [(answer.request_id, answer.position) for answer in found] == [("a", 3), ("b", 5)]
    assert {answer.cause for answer in found} == {None}


@pytest.mark.parametrize(
    "changes",
    [
        {"position": 4},
        {"request_id": "A"},
        {"alpha": 0.2},
        {"alpha": None},
        {"score": math.nan},
        {"score": math.inf},
    ],
)
def test_a_stop_that_does_not_fit_the_question_spoils_the_batch(changes: dict[str, Any]) -> None:
    with pytest.raises(Garbage):
        read(altered(**changes), decide(ASKED[1]))


def test_an_audit_is_never_stopped() -> None:
    with pytest.raises(Garbage, match="does not fit"):
        read(decide(ASKED[0]), msgspec.structs.replace(decide(ASKED[1]), stop=True))


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"artifact": "another"}, "remote_artifact"),
        ({"artifact": None}, "remote_artifact"),
        ({"artifact": "another", "stop": False}, "remote_artifact"),
        ({"artifact": None, "stop": False, "reason": "store_unavailable"}, None),
        ({"reason": "refused", "stop": False}, "remote_refused"),
        ({"problem": Problem("urn:x", "No", 422)}, "remote_refused"),
    ],
)
def test_a_decision_that_must_not_be_carried_out_says_why(
    changes: dict[str, Any], cause: str | None
) -> None:
    first, second = read(altered(**changes), decide(ASKED[1]))
    assert (first.cause, second.cause) == (cause, None)


def test_any_version_is_taken_where_any_is_welcome() -> None:
    (answer,) = read(altered(artifact="another"), version=None)
    assert answer.cause is None


@settings(deadline=None)
@given(st.binary() | PLAIN.map(msgspec.msgpack.encode))
def test_arbitrary_bytes_are_garbage(content: bytes) -> None:
    with pytest.raises(Garbage):
        read_answers(ASKED, content, VERSION)


@settings(deadline=None)
@given(
    which=st.integers(0, 1),
    name=st.sampled_from([*GOOD[0], "problem", "marked", "unknown"]),
    value=PLAIN,
    version=st.sampled_from([VERSION, None]),
)
def test_with_any_field_altered_a_stop_still_fits_what_was_asked(
    which: int, name: str, value: Any, version: str | None
) -> None:
    decisions = [dict(fields) for fields in GOOD]
    decisions[which][name] = value
    try:
        found = read_answers(ASKED, msgspec.msgpack.encode({"decisions": decisions}), version)
    except Garbage:
        return
    for event, answer in zip(ASKED, found, strict=True):
        assert (answer.request_id, answer.position) == (event.request_id, event.position)
        decision = answer.decision
        assert decision is not None
        if decision.stop and answer.cause is None:
            assert not event.audit
            assert decision.alpha == event.alpha
            assert decision.score is None or math.isfinite(decision.score)
            assert decision.artifact == VERSION or version is None


@settings(deadline=None)
@given(st.data())
def test_a_cut_or_spoilt_answer_is_garbage_or_another_valid_one(data: st.DataObject) -> None:
    whole = packed(*(decide(event, stop=True) for event in ASKED))
    at = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(Garbage):
        read_answers(ASKED, whole[:at], VERSION)
    spoilt = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]
    try:
        found = read_answers(ASKED, spoilt, VERSION)
    except Garbage:
        return
    assert [(answer.request_id, answer.position) for answer in found] == [("a", 3), ("b", 5)]


@settings(deadline=None)
@given(st.binary() | PLAIN.map(msgspec.json.encode))
def test_a_problem_is_told_in_a_line_or_not_at_all(content: bytes) -> None:
    assert len(read_problem(content)) <= 500


def test_what_a_problem_says() -> None:
    content = msgspec.json.encode(Problem("urn:x", "No", 404, "Take another"))
    assert read_problem(content) == ": No. Take another"
    assert read_problem(b"<html>") == ""
