"""Comparing scores on halves of the prompts: honest figures, pairwise equal halves, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from table_makers import trace

from calibration.calibrate import calibrate
from calibration.evaluate import replay, threshold_stops
from calibration.losses import bad_cues
from calibration.table import CueTable
from calibration.two_fold import require_halves, two_fold
from probes.errors import InputError, TooFewTraces


def table(signal: float, prompts: int = 200, rollouts: int = 1, seed: int = 0) -> CueTable:
    rng = np.random.default_rng(seed)
    made = []
    for prompt in range(prompts):
        for rollout in range(rollouts):
            good = rng.random(4) < 0.6
            scores = (signal * good + rng.normal(size=4)).tolist()
            made.append(
                trace(f"{prompt}/{rollout}", scores, agrees=good.tolist(), group=f"{prompt}")
            )
    return CueTable.from_traces(made)


def test_a_better_score_saves_more_at_the_same_share_of_bad_stops() -> None:
    blind, weak, strong = (two_fold(table(signal), "disagree", 0.1, 0.9) for signal in (0, 2, 6))
    assert blind.saved < weak.saved < strong.saved
    assert strong.saved > 0.5
    assert max(weak.bad_share, strong.bad_share) < 0.1


def test_figures_are_of_prompts_not_calibrated_on() -> None:
    """Against the same done by hand, with the halves drawn alike."""
    data = table(3.0, rollouts=2)
    found = two_fold(data, "disagree", 0.1, 0.9, halvings=1, seed=5)
    groups = np.unique(np.array(data.groups), return_inverse=True)[1]
    first = np.random.default_rng(5).permutation(200)[groups] < 100
    tokens = bad = 0.0
    for half in (first, ~first):
        known, fresh = data.take(np.flatnonzero(half)), data.take(np.flatnonzero(~half))
        assert set(known.groups) & set(fresh.groups) == set()
        limit = calibrate(known, "disagree", 0.1).threshold
        outcome = replay("", fresh, bad_cues(fresh, "disagree"), threshold_stops(fresh, limit))
        tokens += outcome.tokens * len(fresh)
        bad += outcome.bad_stops
    assert found.saved == pytest.approx(1 - tokens / data.tokens.sum())
    assert found.bad_share == pytest.approx(bad / len(data))


def test_the_same_seed_gives_the_same_figures() -> None:
    data = table(3.0)
    assert two_fold(data, "disagree", 0.1, 0.9) == two_fold(data, "disagree", 0.1, 0.9)
    assert two_fold(data, "disagree", 0.1, 0.9) != two_fold(data, "disagree", 0.1, 0.9, seed=1)


def test_halves_that_cannot_carry_the_promise_are_refused() -> None:
    require_halves(90, 0.05, 0.9)
    with pytest.raises(TooFewTraces, match=r"89 prompts .* needs 90 together"):
        require_halves(89, 0.05, 0.9)
    with pytest.raises(TooFewTraces):
        two_fold(table(1.0, prompts=20, rollouts=9), "disagree", 0.05, 0.9)


def test_unknown_labels_are_refused() -> None:
    made = [trace(f"{index}", [1.0], agrees=[None]) for index in range(100)]
    with pytest.raises(InputError, match="label"):
        two_fold(CueTable.from_traces(made), "disagree", 0.1, 0.9)
