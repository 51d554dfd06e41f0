"""Decisions are told to the metrics, to the counters of the fleet and to the status page."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from decision_makers import MODEL, event, sidecar, written
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from stopper.service.decisions.histogram import observe_all
from stopper.service.decisions.tally import FEED, KEPT, MOST_A_MESSAGE, MOST_SET_ASIDE, Tally
from stopper.service.metrics import Metrics
from stopper.service.status.records import Recent
from stopper.service.store import MemoryStore, StoreUnavailable
from stopper.wire import Decision, DecisionEvent


class Fickle(MemoryStore):
    """A store that goes away when told to."""

    away = False

    async def count(self, amounts: Any) -> None:
        if self.away:
            raise StoreUnavailable("gone")
        await super().count(amounts)


def answered(number: int, reason: Any = "score_below_threshold") -> tuple[DecisionEvent, Decision]:
    score = 1.0 * number
    made = Decision(f"secret {number}", number, False, reason, score, 0.5, 0.1, "version")
    return DecisionEvent(f"secret {number}", "tiny", number, score=score), made


def add(tally: Tally, *pairs: tuple[DecisionEvent, Decision]) -> None:
    tally.add([item for item, _ in pairs], [answer for _, answer in pairs], 0.001)


def feed(store: MemoryStore) -> list[Recent]:
    return [msgspec.json.decode(one, type=Recent) for one in asyncio.run(store.recent(FEED, KEPT))]


@settings(deadline=None)
@given(st.lists(st.floats(-20, 20, width=32) | st.sampled_from([-8.0, 0.0, 1.0, 8.0])))
def test_many_observations_are_those_made_one_by_one(values: list[float]) -> None:
    one, many = CollectorRegistry(), CollectorRegistry()
    buckets = (-8, -2, 0, 1, 8)
    slow = Histogram("h", "h", buckets=buckets, registry=one)
    for value in values:
        slow.observe(value)
    observe_all(Histogram("h", "h", buckets=buckets, registry=many), values)
    for sample, other in zip(*(next(iter(r.collect())).samples for r in (one, many)), strict=True):
        assert sample.name == other.name
        assert sample.labels == other.labels
        if not sample.name.endswith("_created"):
            assert sample.value == pytest.approx(other.value)


def test_decisions_are_seen_in_metrics_counters_and_feed(tmp_path: Path) -> None:
    with sidecar(written(tmp_path / "a")) as made:
        made.ask(
            event(1, "private name", score=9.0),
            event(1, "quiet", score=-9.0),
            event(1, "audited", score=9.0, audit=True),
            event(1, "wrong"),
        )
        store = made.runtime.store
        for _ in range(200):
            made.runner.run(asyncio.sleep(0.05))
            if made.runner.run(store.counts()):
                break
        counts = made.runner.run(store.counts())
        text = made.get("/metrics").text
        items = made.runner.run(store.recent(FEED, KEPT))
    assert counts == {
        "events.stop.score_above_threshold": 1.0,
        "events.continue.score_below_threshold": 1.0,
        "events.mark.audit": 1.0,
        "events.continue.refused": 1.0,
    }
    reasons = [
        ("stop", "score_above_threshold"),
        ("continue", "score_below_threshold"),
        ("mark", "audit"),
        ("continue", "refused"),
    ]
    for decision, reason in reasons:
        labels = f'decision="{decision}",reason="{reason}"'
        assert f"stopper_decisions_total{{{labels}}} 1.0" in text
    assert "stopper_decision_seconds_count 1.0" in text
    assert "stopper_probe_score_count 3.0" in text
    assert "private" not in text
    assert not any(b"private" in item for item in items)
    recent = [msgspec.json.decode(item, type=Recent) for item in items]
    assert sorted((one.decision, one.reason) for one in recent) == [
        ("continue", "score_below_threshold"),
        ("mark", "audit"),
        ("stop", "score_above_threshold"),
    ]
    for one in recent:
        assert (one.source, one.model, one.position, one.alpha) == ("events", MODEL, 1, 0.1)
        assert one.artifact is not None


def test_every_stop_of_quiet_traffic_is_in_the_feed_and_a_few_of_the_rest() -> None:
    store = MemoryStore()
    tally = Tally(Metrics(), store)
    add(tally, answered(0, "score_above_threshold"))
    add(tally, *(answered(number) for number in range(1, 100)))
    asyncio.run(tally.flush())
    found = feed(store)
    assert [one.position for one in found if one.decision == "stop"] == [0]
    assert [one.position for one in found if one.decision == "continue"] == list(
        range(100 - MOST_A_MESSAGE, 100)
    )
    asyncio.run(tally.flush())
    assert feed(store) == found


def test_busy_traffic_is_counted_without_being_kept() -> None:
    store = MemoryStore()
    tally = Tally(Metrics(), store)
    number = 3 * MOST_SET_ASIDE + 5
    for at in range(number):
        add(tally, answered(at))
        assert len(tally._answers) < MOST_SET_ASIDE
    asyncio.run(tally.flush())
    assert asyncio.run(store.counts()) == {"events.continue.score_below_threshold": number}
    assert len(feed(store)) == MOST_A_MESSAGE


def test_counts_wait_for_a_store_that_is_away() -> None:
    store = Fickle()
    tally = Tally(Metrics(), store)
    store.away = True
    add(tally, answered(1), answered(2))
    asyncio.run(tally.flush())
    assert asyncio.run(store.counts()) == {}
    store.away = False
    add(tally, answered(3))
    asyncio.run(tally.flush())
    assert asyncio.run(store.counts()) == {"events.continue.score_below_threshold": 3.0}


def test_what_is_left_is_told_at_the_end() -> None:
    store = MemoryStore()
    tally = Tally(Metrics(), store)

    async def brief() -> None:
        async with tally.running():
            add(tally, answered(1))

    asyncio.run(brief())
    assert asyncio.run(store.counts()) == {"events.continue.score_below_threshold": 1.0}
