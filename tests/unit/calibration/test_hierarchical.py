"""Thresholds for queries in groups: against a slow search, and where they are plain CRC."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import risk
from calibration.hierarchical import least_groups, require_groups, threshold
from probes.errors import InputError, TooFewTraces

pairs = st.lists(st.tuples(st.floats(-4, 4, width=16), st.integers(0, 12)), min_size=1, max_size=60)


def slow(scores: list[float], groups: list[int], alpha: float) -> float:
    names = sorted(set(groups))
    for limit in [-math.inf, *sorted(scores)]:
        shares = [
            np.mean([x > limit for x, home in zip(scores, groups, strict=True) if home == name])
            for name in names
        ]
        if (1 + sum(shares)) / (len(names) + 1) <= alpha + 1e-10:
            return limit
    return math.inf


@settings(deadline=None, max_examples=200)
@given(pairs, st.sampled_from([0.05, 0.1, 0.25, 0.5, 0.9]))
def test_it_is_the_lowest_that_keeps_the_promise(
    some: list[tuple[float, int]], alpha: float
) -> None:
    scores, groups = [x for x, _ in some], [home for _, home in some]
    assert threshold(np.float32(scores), groups, alpha) == slow(scores, groups, alpha)


@settings(deadline=None)
@given(st.lists(st.floats(-4, 4, width=16), min_size=1, max_size=60), st.sampled_from([0.1, 0.25]))
def test_with_one_query_a_group_it_is_conformal_risk_control(
    scores: list[float], alpha: float
) -> None:
    ours = threshold(np.float32(scores), np.arange(len(scores)), alpha)
    assert ours == risk.threshold(scores, alpha, "crc")


def test_too_few_groups_are_refused_with_the_number_missing() -> None:
    assert [least_groups(alpha) for alpha in (0.1, 0.05, 0.01)] == [9, 19, 99]
    assert threshold(np.zeros(900, np.float32), np.arange(900) % 8, 0.1) == math.inf
    require_groups(19, 0.05)
    with pytest.raises(TooFewTraces, match=r"at least 19 articles, so 3 more.*alpha >= 0\.059"):
        require_groups(16, 0.05)


def test_scores_without_their_groups_are_refused() -> None:
    with pytest.raises(InputError, match="needs a group"):
        threshold(np.zeros(3, np.float32), [1, 2], 0.1)
    with pytest.raises(InputError, match="NaN"):
        threshold(np.float32([np.nan]), [1], 0.1)
