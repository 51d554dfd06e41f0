"""A session is asked to stop the thinking of one request, and tells of one request."""

from __future__ import annotations

from typing import Any

import pytest
from engine_simulator import END, FORCE, automaton, device_watch, host_watch, judge
from session_makers import ALPHA, PROMPT, SO, WAIT, admit, feed, request, session

from adapters.vllm.session import Session
from adapters.vllm.stop_thinking import Asked, together


@pytest.fixture(params=["host", "device"])
def one(request: pytest.FixtureRequest) -> Session:
    cues = automaton()
    host = request.param == "host"
    return session(host_watch(cues, judge()) if host else device_watch(cues, judge(), 1))


@pytest.mark.parametrize("mode", [1, "audit"])
def test_the_next_token_is_the_end_and_the_record_says_who_wanted_it(
    one: Session, mode: int | str
) -> None:
    admit(one, request("a", {"stopper": mode}))
    feed(one, "a", SO)
    assert one.stop_thinking("a") == Asked("stopping", request_ids=("a",))
    feed(one, "a", SO, SO, *FORCE, SO, start=2)
    admit(one, finished=("a",))
    record = one.decision("a")
    assert record is not None
    assert record == one.decisions(1)[0]
    assert (record["decision"], record["reason"]) == ("stopped", "asked_to_stop")
    assert (record["position"], record["cues"]) == (2, 0)
    assert [record[key] for key in ("score", "threshold", "cue", "top_score")] == [None] * 4
    assert record["alpha"] == ALPHA
    assert one.stop_thinking("a") == Asked("unknown")


def test_the_mark_of_an_audit_is_spoilt_and_its_top_score_stays(one: Session) -> None:
    admit(one, request("a", {"stopper": "audit"}))
    feed(one, "a", WAIT)
    before = one.decision("a")
    assert before is not None
    assert before["decision"] == "marked"
    assert before["top_score"] == before["score"]
    assert one.stop_thinking("a").outcome == "stopping"
    feed(one, "a", WAIT, SO, *FORCE, start=2)
    after = one.decision("a")
    assert after is not None
    assert (after["reason"], after["position"], after["score"]) == ("asked_to_stop", 2, None)
    assert (after["cues"], after["top_score"]) == (1, before["score"])


@pytest.mark.parametrize(
    ("extra", "tokens", "outcome", "reason"),
    [
        ({"stopper": 0}, [SO], "not_watched", "asked_off"),
        ({"stopper_alpha": 1e-4}, [SO], "not_watched", "too_few_calibration_traces"),
        ({"stopper": 9}, [SO], "not_watched", "bad_options"),
        (None, [SO, END], "not_thinking", None),
        (None, [SO, END, SO], "not_thinking", None),
        (None, [WAIT], "already_stopping", None),
        (None, [WAIT, *FORCE], "not_thinking", None),
    ],
)
def test_what_is_refused_leaves_no_trace(
    one: Session, extra: dict[str, Any] | None, tokens: list[int], outcome: str, reason: str | None
) -> None:
    admit(one, request("a", extra))
    feed(one, "a", *tokens)
    before = one.decision("a")
    for _ in range(2):
        found = one.stop_thinking("a")
        assert (found.outcome, found.reason) == (outcome, reason)
    assert one.decision("a") == before
    assert one.counters()["fail_open"] == {}


def test_all_choices_of_a_response_are_stopped(one: Session) -> None:
    names = [f"{number}_chatcmpl-7-0a1b2c3d" for number in range(3)]
    admit(one, *(request(name) for name in names), request("chatcmpl-8-0a1b2c3d"))
    for name in names[:2]:
        feed(one, name, SO)
    feed(one, names[2], END)
    assert one.stop_thinking("chatcmpl-7") == Asked("stopping", request_ids=tuple(names))
    assert one.stop_thinking("chatcmpl-7").outcome == "already_stopping"
    assert one.stop_thinking(names[2]) == Asked("not_thinking", request_ids=(names[2],))
    for name in names:
        assert bool(feed(one, name, SO, SO, start=2)) == (name != names[2])
    assert feed(one, "chatcmpl-8-0a1b2c3d", SO) == []


def test_one_decision_is_found_running_or_finished_by_the_response(one: Session) -> None:
    first, second = (f"{number}_chatcmpl-7-0a1b2c3d" for number in range(2))
    admit(one, request(first), request(second), request("chatcmpl-8-0a1b2c3d", {"stopper": 0}))
    feed(one, first, WAIT)
    running = one.decision("chatcmpl-7")
    assert running is not None
    assert (running["request_id"], running["running"]) == (first, True)
    admit(one, finished=(first,))  # the other choice goes on
    assert one.decision("chatcmpl-7") == running | {"running": False}
    assert one.decision(second)["running"]  # type: ignore
    off = one.decision("chatcmpl-8")
    assert off is not None
    assert (off["decision"], off["running"], off["prompt_tokens"]) == ("off", True, len(PROMPT))
    assert one.decision("chatcmpl") is None


def test_a_response_id_used_again_means_the_running_request(one: Session) -> None:
    admit(one, request("cmpl-7-0-aaaaaaaa"))
    admit(one, request("cmpl-7-0-bbbbbbbb"), finished=("cmpl-7-0-aaaaaaaa",))
    assert one.decision("cmpl-7")["request_id"] == "cmpl-7-0-bbbbbbbb"  # type: ignore
    assert one.stop_thinking("cmpl-7").request_ids == ("cmpl-7-0-bbbbbbbb",)


def test_another_prompt_under_the_same_id_is_found_and_not_stopped_yet(one: Session) -> None:
    admit(one, request("a"))
    assert one.stop_thinking("a").outcome == "stopping"
    longer = (*PROMPT, SO)
    admit(one, request("a", prompt=longer))
    assert feed(one, "a", SO, prompt=longer) == []
    assert one.stop_thinking("a").outcome == "stopping"


def test_ranks_that_do_not_report_close_alike_and_say_nothing() -> None:
    one = session(journal=None)
    admit(one, request("a"))
    feed(one, "a", SO)
    assert one.stop_thinking("a").outcome == "stopping"
    assert feed(one, "a", SO, SO, start=2) == [2]
    assert one.decision("a") is None


def test_a_collection_stops_nothing() -> None:
    watch = host_watch(automaton(), None, keep_hidden=True)
    one = session(watch, policy=None, alpha=None, keeps=True)
    admit(one, request("a"))
    assert one.stop_thinking("a") == Asked("not_watched", "collection", ("a",))
    assert one.decision("a") is None


def test_of_several_answers_the_best_one_counts() -> None:
    assert together([]) == Asked("unknown")
    refused = [Asked("not_watched", "lora"), Asked("not_thinking"), Asked("already_stopping")]
    for best in range(1, 4):
        assert together(refused[:best]) == refused[best - 1]
    assert together([*refused, Asked("stopping")]) == Asked("stopping")
