"""Replay against a loop over traces, and the statistics around it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from table_makers import SCORES, trace, trace_lists

from calibration.evaluate import (
    auroc,
    budget_stops,
    clopper_pearson,
    effective_n,
    equal_budget,
    never_stops,
    oracle_stops,
    replay,
    threshold_stops,
)
from calibration.losses import LOSSES, bad_cues
from calibration.table import CueTable
from probes.errors import InputError
from probes.events import Trace


def by_hand(traces: list[Trace], stop_here) -> tuple[float, float]:
    """Mean tokens and accuracy of stopping at the first cue for which `stop_here(trace, i)`."""
    tokens, right = [], []
    for one in traces:
        stop = next((i for i in range(len(one.cues)) if stop_here(one, i)), None)
        tokens.append(one.tokens if stop is None else one.cues[stop].position)
        right.append(one.full_correct if stop is None else one.cues[stop].correct)
    return sum(tokens) / len(tokens), sum(right) / len(right)


@given(trace_lists(), SCORES, st.integers(0, 40), st.sampled_from(list(LOSSES)))
@settings(deadline=None, max_examples=200)
def test_every_rule_is_its_loop(traces, limit, budget, loss) -> None:
    table = CueTable.from_traces(traces)
    bad = bad_cues(table, loss)
    flags = iter(bad.tolist())
    marks = {one.trace_id: [next(flags) for _ in one.cues] for one in traces}
    rules = {
        "threshold": (
            threshold_stops(table, limit),
            lambda one, i: np.float32(one.cues[i].score) > np.float32(limit),
        ),
        "budget": (budget_stops(table, budget), lambda one, i: one.cues[i].position >= budget),
        "oracle": (oracle_stops(table, bad), lambda one, i: not marks[one.trace_id][i]),
        "never": (never_stops(table), lambda one, i: False),
    }
    for name, (stops, rule) in rules.items():
        outcome = replay(name, table, bad, stops)
        tokens, accuracy = by_hand(traces, rule)
        assert outcome.tokens == pytest.approx(tokens)
        assert outcome.accuracy == pytest.approx(accuracy)
        first = [next((i for i in range(len(t.cues)) if rule(t, i)), None) for t in traces]
        assert outcome.bad_stops == sum(
            stop is not None and marks[one.trace_id][stop]
            for one, stop in zip(traces, first, strict=True)
        )
        assert outcome.stopped_share == sum(s is not None for s in first) / len(traces)


def test_a_tie_does_not_stop() -> None:
    table = CueTable.from_traces([trace("a", [0.1, 0.1])])
    assert threshold_stops(table, 0.1).tolist() == [-1]
    assert threshold_stops(table, np.nextafter(np.float32(0.1), np.float32(0))).tolist() == [0]


def test_infinite_thresholds_stop_at_once_or_never() -> None:
    table = CueTable.from_traces([trace("a", [-9.0, 9.0]), trace("b", [])])
    assert threshold_stops(table, -math.inf).tolist() == [0, -1]
    assert threshold_stops(table, math.inf).tolist() == [-1, -1]


def test_an_unknown_label_makes_the_accuracy_unknown_only_where_it_is_used() -> None:
    table = CueTable.from_traces(
        [trace("a", [1.0, 5.0], correct=[None, True]), trace("b", [0.0], full_correct=False)]
    )
    bad = bad_cues(table, "disagree")
    assert replay("late", table, bad, threshold_stops(table, 2.0)).accuracy == 0.5
    assert replay("early", table, bad, threshold_stops(table, 0.5)).accuracy is None
    assert equal_budget("budget", table, bad, 12.0).accuracy is None


@given(trace_lists(min_size=2), st.floats(0, 60))
@settings(deadline=None, max_examples=200)
def test_the_budget_meets_the_mean_tokens(traces: list[Trace], target: float) -> None:
    table = CueTable.from_traces(traces)
    bad = bad_cues(table, "wrong")
    lowest = replay("", table, bad, budget_stops(table, 0)).tokens
    highest = replay("", table, bad, never_stops(table)).tokens
    outcome = equal_budget("budget", table, bad, target)
    assert outcome.tokens == pytest.approx(min(max(target, lowest), highest))
    assert 0 <= outcome.bad_stop_share <= 1
    assert outcome.accuracy is not None and -1e-9 <= outcome.accuracy <= 1 + 1e-9


def test_no_traces_are_refused() -> None:
    empty = CueTable.from_traces([])
    with pytest.raises(InputError, match="no traces"):
        replay("full", empty, bad_cues(empty, "wrong"), never_stops(empty))


@pytest.mark.parametrize(("count", "n"), [(0, 1), (0, 50), (3, 50), (25, 50), (50, 50), (7, 1000)])
def test_intervals_are_scipys(count: int, n: int) -> None:
    exact = stats.binomtest(count, n).proportion_ci(0.95, method="exact")
    assert clopper_pearson(count, n) == pytest.approx((exact.low, exact.high))


def test_alike_rollouts_widen_the_interval() -> None:
    def table(groups: int, rollouts: int) -> CueTable:
        return CueTable.from_traces(
            trace(f"{g}/{r}", [1.0], group=str(g)) for g in range(groups) for r in range(rollouts)
        )

    alike = np.repeat(np.arange(40) < 8, 5)
    assert effective_n(alike, table(40, 5)) == pytest.approx(40, rel=0.03)
    mixed = np.tile(np.arange(5) < 1, 40)
    assert effective_n(mixed, table(40, 5)) == 200
    assert effective_n(alike, table(200, 1)) == 200
    assert effective_n(np.zeros(200, bool), table(40, 5)) == 40
    wide = replay("", table(40, 5), alike, np.arange(200))
    narrow = replay("", table(200, 1), alike, np.arange(200))
    assert wide.bad_stop_share == narrow.bad_stop_share == 0.2
    low, high = wide.bad_stop_interval or (0, 0)
    exact = stats.binomtest(8, 40).proportion_ci(0.95, method="exact")
    assert (low, high) == pytest.approx((exact.low, exact.high), abs=0.01)
    assert narrow.bad_stop_interval is not None and narrow.bad_stop_interval[0] > low


@given(st.lists(st.tuples(SCORES, st.booleans()), min_size=1, max_size=30))
@settings(deadline=None)
def test_auroc_counts_pairs(cues) -> None:
    scores = np.array([score for score, _ in cues], dtype=np.float32)
    good = np.array([label for _, label in cues])
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[good] for b in scores[~good]]
    found = auroc(scores, good)
    assert math.isnan(found) if not pairs else found == pytest.approx(sum(pairs) / len(pairs))
