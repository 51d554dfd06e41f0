"""The promise beyond the grid (test_grid.py): other levels, rollouts, and the power of the bars.

The bars are those of bars.py. All seeds are fixed.
"""

import numpy as np
import pytest
from bars import (
    BARS,
    assert_ltt_holds,
    calibrate_repeatedly,
    risk_curve,
    size,
    worst_scores,
)
from populations import RiskCurve, calibration_sets

from calibration.calibrate import calibrate
from calibration.evaluate import replay, threshold_stops
from calibration.losses import bad_cues
from calibration.risk import threshold
from calibration.simulate import SimulatorSettings, simulate


@pytest.mark.parametrize("alpha", [0.02, 0.05])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_other_levels_hold_too(alpha: float, confidence: float) -> None:
    for n in ("smallest", 400):
        units = size(n, "ltt", alpha, confidence)
        risks = calibrate_repeatedly(10, "wrong", units, "ltt", alpha, confidence)
        assert_ltt_holds(risks, alpha, confidence)


@pytest.mark.parametrize("method", ["ltt", "crc"])
def test_the_bars_would_notice_one_rank(method: str) -> None:
    """The power of these tests: thresholds one rank lower do not pass them."""
    worst, curve = worst_scores(1, "wrong"), risk_curve(1, "wrong")
    lower = []
    for traces in calibration_sets(size("smallest", method)):
        limit = np.float32(threshold(worst[traces], 0.1, method))
        lower.append(worst[traces][worst[traces] < limit].max(initial=-np.inf))
    with pytest.raises(AssertionError):
        BARS[method](curve.at(np.array(lower, dtype=np.float32)))


def test_rollouts_of_a_prompt_count_once() -> None:
    """Twenty alike rollouts of 25 prompts are 25 requests, not 500; the wrong count breaks alpha.

    Their labels share the difficulty and their scores most of the noise, so that n = 500 promises
    a precision that is not there.
    """
    dials = {"cues": 1, "rollouts": 20, "prompt_effect": 0.9, "trace_effect": 0.05}
    test = simulate(SimulatorSettings(200_000, seed=77, **dials))
    curve = RiskCurve(test, "wrong")
    honest, naive = [], []
    for seed in range(200):
        few = simulate(SimulatorSettings(500, seed=seed, **dials))
        assert len(set(few.groups)) == 25
        honest.append(calibrate(few, "wrong", 0.1).threshold)
        columns = {name: getattr(few, name) for name in type(few).__dataclass_fields__}
        alone = type(few)(**columns | {"groups": few.trace_ids})
        naive.append(calibrate(alone, "wrong", 0.1).threshold)
    assert_ltt_holds(curve.at(np.array(honest, dtype=np.float32)), 0.1)
    with pytest.raises(AssertionError):
        assert_ltt_holds(curve.at(np.array(naive, dtype=np.float32)), 0.1)


def test_the_curve_is_the_replay() -> None:
    """What the cells measure is what `stopper evaluate` reports."""
    table = simulate(SimulatorSettings(2000, cues=10, seed=5))
    for loss in ("disagree", "wrong", "harm"):
        bad, curve = bad_cues(table, loss), RiskCurve(table, loss)
        limits = np.r_[np.quantile(table.scores, np.linspace(0, 1, 40)), -np.inf, np.inf]
        limits = np.r_[limits, table.scores[:40]].astype(np.float32)
        replayed = [
            replay("", table, bad, threshold_stops(table, limit)).bad_stop_share for limit in limits
        ]
        assert curve.at(limits) == pytest.approx(replayed)
