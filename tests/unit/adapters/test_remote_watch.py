"""Cues go out, decisions come back some steps later, and are carried out while there is time."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from engine_simulator import (
    END,
    FORCE,
    THINK,
    Engine,
    Trace,
    automaton,
    ids,
    inside,
    judge,
    offline,
    step_rows,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import HIDDEN, LAYERS
from remote_engine import ALPHA, InProcess, RemoteEngine, narrow, remote_watch, state_of
from session_makers import SO, WAIT

from adapters.vllm.remote.answers import Answer
from adapters.vllm.remote.request import RemoteOutcome
from adapters.vllm.remote.tracker import pack
from adapters.vllm.remote.watch import RemoteWatch
from stopper.wire import MAX_REQUEST_ID

PROMPT = [THINK, *ids("so")]


@st.composite
def traces(draw: Any, name: str) -> Trace:
    return Trace(
        name,
        list(draw(st.sampled_from([(THINK,), (*ids("so wa"), THINK, *ids(" a")), (5,)]))),
        length=draw(st.integers(2, 40)),
        threshold=draw(st.sampled_from([-np.inf, -3.0, 0.0, 2.0, 8.0, np.inf])),
        forces=draw(st.sampled_from([True, True, False])),
        nan_rate=draw(st.sampled_from([0.0, 0.3])),
        watched=draw(st.sampled_from([True, True, True, False])),
    )


BATCH = st.integers(1, 4).flatmap(
    lambda count: st.tuples(*(traces(f"request {number}") for number in range(count)))
)


@settings(deadline=None, max_examples=60)
@given(batch=BATCH, seed=st.integers(0, 99), chunk=st.sampled_from([0, 3]))
def test_with_prompt_answers_it_decides_as_the_local_rule_one_token_later(
    batch: tuple[Trace, ...], seed: int, chunk: int
) -> None:
    engine = RemoteEngine(automaton(), judge(), seed=seed, chunk=chunk)
    found = engine.run(list(batch))
    for trace in batch:
        if not trace.watched:
            assert trace.name not in found
            continue
        outcome = found[trace.name]
        truth = offline(trace, engine.cues, engine.judge)
        assert outcome.failure is None
        assert outcome.remote is not None
        sent = [event.position for event in engine.events(trace.name)]
        assert all(a < b for a, b in pairwise(sent))
        assert outcome.remote["remote"]["answered"] <= len(sent)
        forced = engine.forced_at.get(trace.name, [])
        if trace.forces and truth.stop is not None and not forced:
            # There was no next token inside the thinking.
            after = inside(trace, engine.cues).get(truth.stop + 1, False)
            assert not after
            assert outcome.stop_position is None
            counted = outcome.remote["remote"]
            assert outcome.remote["decision"] != "not_stopped" or counted["unanswered"] == 1
            continue
        if truth.stop is None or (not trace.forces and outcome.stop_position is None):
            assert outcome.stop_position is None or trace.forces
            assert not forced
            continue
        assert outcome.stop_position == truth.stop
        assert outcome.stop_score == pytest.approx(truth.score, abs=1e-5)
        if trace.forces:
            assert forced[0] == truth.stop + 1
            assert outcome.remote["remote"]["lag_tokens"] == 1
            assert trace.output[truth.stop + 2 - len(trace.prompt) :][: len(forced)] == list(
                FORCE[: len(forced)]
            )
        else:
            assert not forced


@settings(deadline=None, max_examples=20)
@given(
    batch=BATCH,
    seed=st.integers(0, 999),
    chunk=st.sampled_from([0, 3]),
    preempt=st.sampled_from([0.0, 0.2]),
)
def test_late_lost_and_preempted_nothing_is_sent_twice_and_no_record_lies(
    batch: tuple[Trace, ...], seed: int, chunk: int, preempt: float
) -> None:
    engine = RemoteEngine(automaton(), judge(), seed=seed, chunk=chunk, preempt=preempt, wild=True)
    found = engine.run(list(batch))
    names = {event.request_id for event in engine.sender.seen}
    assert len(names) <= sum(trace.watched for trace in batch)
    for name, outcome in found.items():
        (trace,) = (trace for trace in batch if trace.name == name)
        assert outcome.failure is None
        sent = [event.position for event in engine.events(name)]
        assert all(a < b for a, b in pairwise(sent))  # never twice, and ascending
        told = outcome.remote
        assert told is not None
        counted = told["remote"]
        assert counted["events"] >= len(sent)
        assert counted["events"] == sum(
            counted[part] for part in ("answered", "late", "lost", "unanswered")
        )
        forced = engine.forced_at.get(name, [])
        if outcome.stop_position is None:
            assert not forced or told["reason"] == "remote_trace_changed"
        elif trace.forces:
            at = told["forced_position"] + len(trace.prompt) - 1
            assert at in forced
            assert at >= outcome.stop_position  # at it, where the step was run again
            assert told["remote"]["lag_tokens"] == at - outcome.stop_position
            assert trace.output[told["forced_position"] :][:1] in ([END], [])
        else:
            assert not forced


def test_a_trace_that_is_sampled_anew_behind_the_sidecars_back_is_given_up() -> None:
    sender = InProcess(judge())
    watch = started(sender, threshold=np.inf)
    feed(watch, sender, [PROMPT[-1], SO, WAIT])
    assert [event.position for event in sender.seen] == [2]
    feed(watch, sender, [WAIT], at=2)  # the same again: preempted and back
    feed(watch, sender, [SO, WAIT, WAIT], at=2)  # another token where the cue was
    assert [event.position for event in sender.seen] == [2]
    told = ended(watch)
    assert (told["decision"], told["reason"]) == ("failed_open", "remote_trace_changed")
    assert watch.counters()["fail_open"] == {"remote_trace_changed": 1}


def test_a_stop_is_taken_back_with_the_cue_it_rests_on() -> None:
    sender = InProcess(judge())
    watch = started(sender, threshold=-np.inf)
    assert feed(watch, sender, [PROMPT[-1], SO, WAIT, SO]) == [3]
    assert feed(watch, sender, [SO, SO, SO], at=2) == []
    assert ended(watch)["reason"] == "remote_trace_changed"


def test_run_again_from_before_the_cue_it_closes_at_the_cue_and_no_earlier() -> None:
    sender = InProcess(judge())
    watch = started(sender, threshold=-np.inf)
    assert feed(watch, sender, [PROMPT[-1], SO, WAIT, SO]) == [3]
    assert feed(watch, sender, [SO, WAIT, *FORCE], at=1) == [2, 3, 4]
    told = ended(watch)
    assert (told["forced_position"], told["remote"]["lag_tokens"]) == (2, 0)
    assert len(sender.seen) == 1


def test_a_users_wish_outlives_the_decision_that_came_before_it() -> None:
    sender = InProcess(judge())
    watch = started(sender, threshold=-np.inf)
    assert feed(watch, sender, [PROMPT[-1], SO, WAIT, SO]) == [3]
    assert watch.stop_thinking("a").outcome == "already_stopping"
    assert feed(watch, sender, [SO, END], at=1) == [1, 2]


def test_a_stop_stays_when_only_what_came_after_it_is_lost() -> None:
    sender = InProcess(judge())
    watch = started(sender, threshold=-np.inf)
    assert feed(watch, sender, [PROMPT[-1], SO, WAIT, SO]) == [3]
    assert feed(watch, sender, [WAIT, *FORCE], at=3) == [3, 4, 5]
    told = ended(watch)
    assert told["forced_position"] == 3
    assert told["remote"]["lag_tokens"] == 1


def test_a_decision_after_the_thinking_is_not_carried_out() -> None:
    sender = InProcess(judge())
    watch = started(sender, threshold=-np.inf)
    assert feed(watch, sender, [PROMPT[-1], WAIT, END, SO, SO]) == []
    told = ended(watch)
    assert (told["decision"], told["reason"]) == ("not_applied", "remote_thinking_over")


def test_thinking_that_begins_anew_is_not_closed_by_an_old_decision() -> None:
    sender = InProcess(judge())
    watch = started(sender, threshold=-np.inf)
    assert feed(watch, sender, [PROMPT[-1], WAIT, END, THINK, SO, SO]) == []
    assert ended(watch)["reason"] == "remote_thinking_over"


def test_a_decision_that_finds_the_request_finished_is_counted() -> None:
    sender = InProcess(judge())
    watch = started(sender, threshold=-np.inf)
    feed(watch, sender, [PROMPT[-1], WAIT])
    sender.step()
    told = ended(watch)  # arrived, but no further token came
    assert (told["decision"], told["reason"]) == ("not_applied", "remote_request_over")
    watch = started(sender, threshold=-np.inf)
    feed(watch, sender, [PROMPT[-1], WAIT])
    told = ended(watch)
    assert (told["decision"], told["reason"]) == ("failed_open", "remote_unanswered")
    sender.step()
    assert watch.counters()["not_applied"] == {"remote_request_over": 1}


@pytest.mark.parametrize("cause", ["remote_breaker_open", "remote_queue_full"])
def test_events_that_are_not_taken_are_counted_by_cause(cause: str) -> None:
    sender = InProcess(judge())
    sender.cause = cause
    watch = started(sender, threshold=-np.inf)
    assert feed(watch, sender, [PROMPT[-1], WAIT, SO, WAIT]) == []
    told = ended(watch)
    assert (told["decision"], told["reason"]) == ("failed_open", cause)
    assert told["remote"] == {
        "trace": told["remote"]["trace"],
        "events": 2,
        "answered": 0,
        "late": 0,
        "lost": 2,
        "unanswered": 0,
        "causes": {cause: 2},
    }
    assert watch.counters() == {"remote": {}, "fail_open": {cause: 2}, "not_applied": {}}


def test_a_late_stop_is_why_a_request_was_not_stopped() -> None:
    sender = InProcess(judge())
    watch = started(sender, threshold=-np.inf)
    feed(watch, sender, [PROMPT[-1], WAIT])
    ((_, answer),) = sender.under_way
    sender.under_way = [(0, Answer(answer.request_id, 1, answer.decision, "remote_late"))]
    assert feed(watch, sender, [SO, SO], at=2) == []
    told = ended(watch)
    assert (told["decision"], told["reason"]) == ("failed_open", "remote_late")


def test_the_state_travels_in_the_engines_own_dtype() -> None:
    state = np.random.default_rng(0).normal(size=HIDDEN * len(LAYERS)).astype(np.float32)
    state[:3] = [np.nan, np.inf, 1e-30]
    for dtype, size in ((torch.float16, 2), (torch.bfloat16, 2), (torch.float32, 4)):
        sent = narrow(state, dtype)
        packed = pack(sent, dtype)
        assert len(packed.data) == size * state.size
        assert packed.shape == state.shape
        event = InProcess(judge())
        np.testing.assert_array_equal(state_of_packed(packed), sent)
        assert event.seen == []
    assert pack(state, torch.float64).dtype == "float32"


def state_of_packed(state: Any) -> np.ndarray:
    from stopper.wire import DecisionEvent

    return state_of(DecisionEvent("a", "model", 1, hidden_state=state))


def test_names_of_traces_are_unique_sendable_and_short() -> None:
    sender = InProcess(judge())
    names = set()
    for watch in (remote_watch(automaton(), judge(), sender) for _ in range(2)):
        for name in ("again", "again", "x" * 1000, "\ud800"):
            watch.start(name, PROMPT, np.float32(np.nan), forces=True)
            watch.ask_for(name, ALPHA)
            watch.ask_for(name, ALPHA)  # preempted and back: still the same trace
            names.add(ended(watch, name)["remote"]["trace"])
    assert len(names) == 8
    assert all(len(name) <= MAX_REQUEST_ID and name.encode() for name in names)


def test_a_request_that_is_not_the_sidecars_is_judged_here() -> None:
    sender = InProcess(judge())
    watch = remote_watch(automaton(), judge(), sender)
    watch.start("a", PROMPT, np.float32(-np.inf), forces=True)
    assert feed(watch, sender, [PROMPT[-1], SO, WAIT, *FORCE]) == [2, 3, 4]
    watch.finish("a")
    (found,) = watch.outcomes(wait=True)
    assert not isinstance(found, RemoteOutcome)
    assert found.stop_position == len(PROMPT) + 1
    assert sender.seen == []


def test_a_users_wish_closes_the_thinking_without_the_sidecar() -> None:
    sender = InProcess(judge())
    watch = started(sender, threshold=np.inf)
    feed(watch, sender, [PROMPT[-1], WAIT])
    assert watch.stop_thinking("a").outcome == "stopping"
    assert feed(watch, sender, [SO, *FORCE], at=2) == [2, 3, 4]
    watch.finish("a")
    (found,) = watch.outcomes(wait=True)
    assert found.asked
    assert isinstance(found, RemoteOutcome)
    assert found.remote is not None
    assert "decision" not in found.remote
    assert "forced_position" not in found.remote


def test_what_is_sent_says_whose_trace_where_and_at_which_alpha() -> None:
    sender = InProcess(judge())
    watch = started(sender, threshold=np.inf, forces=False)
    feed(watch, sender, [PROMPT[-1], SO, WAIT])
    (event,) = sender.seen
    assert (event.model, event.position, event.alpha, event.audit) == ("model", 2, ALPHA, True)
    assert event.request_id.endswith("-0-a")
    trace = Trace("a", PROMPT, 9)
    expected = trace.hidden(len(PROMPT) + 1, WAIT).reshape(-1)
    np.testing.assert_array_equal(state_of(event), expected)


def started(sender: InProcess, *, threshold: float, forces: bool = True) -> RemoteWatch:
    watch = remote_watch(automaton(), judge(), sender)
    sender.thresholds["a"] = threshold
    watch.start("a", PROMPT, np.float32(np.nan), forces=forces)
    watch.ask_for("a", ALPHA)
    return watch


def feed(watch: RemoteWatch, sender: InProcess, tokens: list[int], at: int = 0) -> list[int]:
    """Feed a token a step from index `at` on (0: the prompt's last); return forced indices."""
    shuffle = Engine(automaton(), judge()).random
    steps = []
    for index, token in enumerate(tokens, start=at):
        sender.step()
        fed = [[(len(PROMPT) - 1 + index, token)]]
        if watch.step(step_rows([Trace("a", PROMPT, 99)], fed, [True], shuffle)) is not None:
            steps.append(index)
    return steps


def ended(watch: RemoteWatch, name: str = "a") -> dict[str, Any]:
    watch.finish(name)
    (found,) = watch.outcomes(wait=True)
    assert isinstance(found, RemoteOutcome)
    assert found.remote is not None
    return found.remote
