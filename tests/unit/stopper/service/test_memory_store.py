"""The store of one process keeps the contract that the one in Redis keeps too."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_makers import step

from probes.shaping import shape
from probes.spec import ProbeSpec
from stopper.service.store import Advanced, MemoryStore, Step
from stopper.service.store.memory import MOST_STEPS

NAN, INF = float("nan"), float("inf")


def advance(store: MemoryStore, *steps: Step) -> list[Advanced]:
    return asyncio.run(store.advance(steps))


def scores(*levels: float, weight: float) -> np.ndarray:
    taken = advance(MemoryStore(), *(step(k, v, weight=weight) for k, v in enumerate(levels)))
    return np.array([one.score for one in taken], np.float32)


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32).filter(bool) | st.just(NAN), min_size=1, max_size=30),
    st.floats(0.0, 4.0),
)
def test_scores_are_shaped_to_the_bit_as_in_calibration(levels: list[float], weight: float) -> None:
    spec = ProbeSpec(kind="linear", layers=(1,), hidden_size=4, shaping="rise", rise_weight=weight)
    wanted = shape(levels, spec)
    assert np.array_equal(scores(*levels, weight=weight), wanted, equal_nan=True)


@pytest.mark.parametrize("level", [NAN, INF, -INF])
def test_what_is_not_finite_never_passes_and_leaves_the_minimum_alone(level: float) -> None:
    store = MemoryStore()
    first, bad, last = advance(
        store,
        *(step(k, v, weight=1.0, threshold=-INF) for k, v in enumerate([1.0, level, 3.0])),
    )
    assert (first.passes, bad.passes, last.passes) == (True, False, True)
    assert np.isnan(bad.score)
    assert last.score == 5.0


@pytest.mark.parametrize(
    ("score", "threshold", "passes"),
    [(1.0, 1.0, False), (1.5, 1.0, True), (9.0, INF, False), (-9.0, -INF, True), (0.0, NAN, False)],
)
def test_a_score_passes_above_the_threshold(score: float, threshold: float, passes: bool) -> None:
    assert advance(MemoryStore(), step(1, score, threshold=threshold))[0].passes is passes


def test_a_position_that_was_there_is_answered_as_it_was_then() -> None:
    store = MemoryStore()
    first, second = advance(store, step(1, 0.0), step(2, 5.0))
    assert (first.outcome, second.outcome) == ("new", "new")
    # Whatever it is asked with now, and whatever came after it.
    again = advance(store, step(1, 9.0, alpha=0.3, artifact="other"), step(2, 9.0))
    assert [one.outcome for one in again] == ["repeated", "repeated"]
    assert (again[0].score, again[0].passes, again[0].marked) == (0.0, False, False)
    assert (again[1].score, again[1].passes, again[1].position_marked) == (5.0, True, 2)


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"position": 4}, "out_of_order"),
        ({"artifact": "other"}, "artifact_changed"),
        ({"alpha": 0.2}, "alpha_changed"),
        ({"alpha": None}, "alpha_changed"),
    ],
)
def test_what_does_not_fit_the_trace_changes_nothing(changes: dict[str, Any], outcome: str) -> None:
    store = MemoryStore()
    advance(store, step(5, 0.5, weight=1.0, audit=True))
    refused = advance(store, step(**{"position": 6, "level": -9.0} | changes))[0]
    assert refused.outcome == outcome
    assert (refused.alpha, refused.artifact, refused.audit) == (0.05, "0123456789abcdef", True)
    assert (refused.passes, refused.marked) == (False, False)
    # Had the refused level been taken, it would be the minimum now.
    after = advance(store, step(6, 1.0, weight=1.0))[0]
    assert (after.outcome, after.score, after.audit) == ("new", 1.5, True)


def test_the_first_cue_that_passes_marks_the_trace() -> None:
    taken = advance(MemoryStore(), *(step(k, v) for k, v in enumerate([0.0, 2.0, 0.0, 3.0])))
    assert [one.marked for one in taken] == [False, True, True, True]
    assert [one.position_marked for one in taken] == [None, 1, 1, 1]


def test_a_long_trace_forgets_its_oldest_answers_only() -> None:
    store = MemoryStore()
    advance(store, *(step(k, 0.0) for k in range(MOST_STEPS + 1)))
    oldest, next_one = advance(store, step(0), step(1))
    assert (oldest.outcome, next_one.outcome) == ("out_of_order", "repeated")


def test_a_trace_that_is_quiet_for_its_time_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("stopper.service.store.memory.time.monotonic", lambda: clock[0])
    store = MemoryStore(ttl_s=10.0)
    advance(store, step(5, request_id="busy"), step(5, request_id="quiet"))
    clock[0] += 9.0
    advance(store, step(6, request_id="busy"))
    clock[0] += 2.0
    busy, quiet = advance(store, step(1, request_id="busy"), step(1, request_id="quiet"))
    assert (busy.outcome, quiet.outcome) == ("out_of_order", "new")


def test_beyond_its_bound_the_quietest_trace_is_forgotten() -> None:
    store = MemoryStore(most_traces=2)
    advance(store, *(step(5, request_id=name) for name in ("a", "b", "a", "c")))
    a, b = advance(store, step(1, request_id="a"), step(1, request_id="b"))
    assert (a.outcome, b.outcome) == ("out_of_order", "new")


def test_a_forgotten_trace_begins_anew() -> None:
    store = MemoryStore()
    advance(store, step(5))
    asyncio.run(store.forget("trace"))
    asyncio.run(store.forget("never there"))
    assert advance(store, step(1))[0].outcome == "new"


def test_values_feeds_and_counters() -> None:
    async def use() -> None:
        store = MemoryStore()
        assert await store.get("key") is None
        assert await store.update("key", lambda old: (old or b"") + b"1") == b"1"
        assert await store.update("key", lambda old: (old or b"") + b"2") == b"12"
        assert await store.get("key") == b"12"
        assert await store.update("key", lambda old: None) is None
        assert await store.get("key") is None
        for number in range(5):
            await store.push("feed", b"%d" % number, 3)
        assert await store.recent("feed", 2) == [b"3", b"4"]
        assert await store.recent("feed", 9) == [b"2", b"3", b"4"]
        assert await store.recent("feed", 0) == await store.recent("none", 5) == []
        await store.count({"a": 1.0, "b": 0.5})
        await store.count({"a": 2.0})
        assert await store.counts() == {"a": 3.0, "b": 0.5}
        await store.ping()
        await store.close()

    asyncio.run(use())
