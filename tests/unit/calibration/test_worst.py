"""x_i against a reference that knows only first stops and losses."""

import hashlib
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_makers import SCORES, trace, trace_lists

from calibration import worst as worst_module
from calibration.losses import LOSSES
from calibration.worst import drawn_rollouts, worst_bad_scores, worst_bad_scores_flat
from probes.errors import InputError
from probes.events import Trace


def is_bad(trace: Trace, cue: int, loss: str) -> bool:
    event = trace.cues[cue]
    if loss == "disagree":
        return not event.agrees
    return not event.correct and (loss == "wrong" or bool(trace.full_correct))


def loss_at(trace: Trace, threshold: float, loss: str) -> int:
    """Stop at the first score above the threshold, by hand."""
    for index, event in enumerate(trace.cues):
        if np.float32(event.score) > np.float32(threshold):
            return int(is_bad(trace, index, loss))
    return 0


def monotone_loss(trace: Trace, threshold: float, loss: str) -> int:
    """Take the largest loss at this threshold or any above it."""
    candidates = [threshold, *(e.score for e in trace.cues if e.score > threshold)]
    return max(loss_at(trace, candidate, loss) for candidate in candidates)


@given(trace_lists(), st.sampled_from(list(LOSSES)))
@settings(deadline=None, max_examples=300)
def test_the_monotone_loss_is_one_exactly_below_x(traces: list[Trace], loss: str) -> None:
    found = worst_bad_scores(traces, loss)
    assert found.dtype == np.float32
    for one, x in zip(traces, found, strict=True):
        grid = {-math.inf, math.inf, *(event.score for event in one.cues)}
        grid |= {float(np.nextafter(np.float32(s), np.float32(9))) for s in grid}
        for threshold in grid:
            below = bool(x > np.float32(threshold))
            assert below == bool(monotone_loss(one, threshold, loss))


@given(st.lists(st.lists(st.tuples(SCORES, st.booleans()), max_size=9), max_size=30), st.data())
@settings(deadline=None, max_examples=200)
def test_blocks_and_the_long_form_change_nothing(cues, data: st.DataObject) -> None:
    scores = np.array([score for one in cues for score, _ in one], dtype=np.float32)
    bad = np.array([label for one in cues for _, label in one], dtype=np.bool_)
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in cues])]).astype(np.int64)
    whole = worst_bad_scores_flat(scores, bad, offsets)
    saved = worst_module._BLOCK_CUES, worst_module._LONGEST_DOUBLED
    try:
        worst_module._BLOCK_CUES = data.draw(st.integers(1, 8))
        worst_module._LONGEST_DOUBLED = data.draw(st.sampled_from([0, 2, 100]))
        assert np.array_equal(worst_bad_scores_flat(scores, bad, offsets), whole)
    finally:
        worst_module._BLOCK_CUES, worst_module._LONGEST_DOUBLED = saved


def test_a_long_trace_among_short_ones() -> None:
    rng = np.random.default_rng(0)
    counts = np.array([3, 5000, 0, 40_000, 2])
    offsets = np.concatenate([[0], np.cumsum(counts)])
    scores = rng.normal(size=offsets[-1]).astype(np.float32)
    bad = rng.random(offsets[-1]) < 0.5
    expected = []
    for low, high in pairwise(offsets):
        top = x = -math.inf
        for cue in range(low, high):
            if scores[cue] > top:
                top = scores[cue]
                x = top if bad[cue] else x
        expected.append(x)
    assert worst_bad_scores_flat(scores, bad, offsets).tolist() == expected


def test_only_running_records_count() -> None:
    # The highest bad score is 2, but no threshold stops there: 3 came before.
    found = worst_bad_scores([trace("a", [1, 3, 2], correct=[False, True, False])], "wrong")
    assert found.tolist() == [1.0]


def test_the_two_zeros_tie() -> None:
    signs = trace("a", [-0.0, 0.0], correct=[True, False])
    assert worst_bad_scores([signs], "wrong").tolist() == [-math.inf]


def test_scores_that_tie_as_float32_tie() -> None:
    close = trace("a", [1.0, 1.0 + 1e-12], correct=[True, False])
    assert worst_bad_scores([close], "wrong").tolist() == [-math.inf]


ROLLOUTS = [
    trace("a/0", [1.0], correct=[False], group="a"),
    trace("b/0", [5.0], correct=[True], group="b"),
    trace("a/1", [4.0], correct=[False], group="a"),
    trace("a/2", [2.0], correct=[False], group="a"),
]


def test_a_group_counts_once_by_its_drawn_rollout() -> None:
    drawn = min(["a/0", "a/1", "a/2"], key=lambda name: hashlib.sha256(name.encode()).digest())
    of_a = {"a/0": 1.0, "a/1": 4.0, "a/2": 2.0}[drawn]
    assert worst_bad_scores(ROLLOUTS, "wrong").tolist() == [of_a, -math.inf]
    backwards = worst_bad_scores(ROLLOUTS[::-1], "wrong")
    assert sorted(backwards.tolist()) == [-math.inf, of_a]


def test_a_group_counts_once_by_its_worst_rollout() -> None:
    assert worst_bad_scores(ROLLOUTS, "wrong", rollouts="worst").tolist() == [4.0, -math.inf]


@given(trace_lists(groups=4))
@settings(deadline=None)
def test_the_worst_rollout_is_never_below_the_drawn_one(traces: list[Trace]) -> None:
    one = worst_bad_scores(traces, "wrong", rollouts="one")
    worst = worst_bad_scores(traces, "wrong", rollouts="worst")
    assert len(one) == len(worst) == len({trace.group for trace in traces})
    assert (worst >= one).all()


def test_the_draw_does_not_look_at_scores_or_order() -> None:
    ids, groups = ["x", "y", "z"], ["g", "g", "g"]
    drawn = {ids[int(drawn_rollouts(ids, groups)[0])]}
    drawn |= {ids[::-1][int(drawn_rollouts(ids[::-1], groups)[0])]}
    assert len(drawn) == 1


def test_an_unknown_way_to_count_is_refused() -> None:
    with pytest.raises(InputError, match="one, worst"):
        worst_bad_scores(ROLLOUTS, "wrong", rollouts="all")
