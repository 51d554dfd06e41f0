"""The promise holds on simulated traces, over hundreds of repeated calibrations.

Each cell draws 200 to 400 disjoint calibration sets from one pool, calibrates each, and asks the
exact risk of each threshold on 50,000 other traces. The bars: for LTT, the share of calibrations
whose risk exceeds alpha is at most eps + 3 binomial standard errors; for CRC, the mean risk is at
most alpha + 3 standard errors (of the draws and of the test population). All seeds are fixed.
"""

import math

import numpy as np
import pytest
from populations import TEST, Population, RiskCurve, population

from calibration.calibrate import calibrate
from calibration.evaluate import replay, threshold_stops
from calibration.losses import bad_cues
from calibration.risk import minimum_units, threshold
from calibration.simulate import SimulatorSettings, simulate

SIZES = ("smallest", 150, 500)
CUES = (1, 3, 10, 30)


def calibrate_repeatedly(
    drawn: Population, loss: str, alpha: float, method: str, n: int, confidence: float = 0.9
) -> np.ndarray:
    """Calibrate on each set; give the exact risk of each threshold."""
    worst = drawn.worst(loss)
    limits = [
        threshold(worst[traces], alpha, method, confidence) for traces in drawn.calibration_sets(n)
    ]
    assert len(limits) >= 200
    assert np.isfinite(limits).any()
    return RiskCurve(drawn.test, loss).at(np.array(limits, dtype=np.float32))


def size(n: int | str, method: str, alpha: float, confidence: float = 0.9) -> int:
    return minimum_units(method, alpha, confidence) if isinstance(n, str) else n


def assert_ltt_holds(risks: np.ndarray, alpha: float, confidence: float = 0.9) -> None:
    eps = 1 - confidence
    over = (risks > alpha).mean()
    assert over <= eps + 3 * math.sqrt(eps * (1 - eps) / len(risks))


def assert_crc_holds(risks: np.ndarray, alpha: float) -> None:
    noise = math.sqrt(risks.var(ddof=1) / len(risks) + alpha * (1 - alpha) / TEST)
    assert risks.mean() <= alpha + 3 * noise


@pytest.mark.parametrize("cues", CUES)
@pytest.mark.parametrize("n", SIZES)
def test_ltt_holds_with_its_confidence(cues: int, n: int | str) -> None:
    units = size(n, "ltt", 0.1)
    assert_ltt_holds(calibrate_repeatedly(population(cues), "wrong", 0.1, "ltt", units), 0.1)


@pytest.mark.parametrize("cues", CUES)
@pytest.mark.parametrize("n", SIZES)
def test_crc_holds_on_average(cues: int, n: int | str) -> None:
    units = size(n, "crc", 0.1)
    assert_crc_holds(calibrate_repeatedly(population(cues), "wrong", 0.1, "crc", units), 0.1)


@pytest.mark.parametrize("loss", ["disagree", "harm"])
@pytest.mark.parametrize("n", SIZES)
def test_the_other_losses_hold_too(loss: str, n: int | str) -> None:
    drawn = population(10)
    ltt = calibrate_repeatedly(drawn, loss, 0.1, "ltt", size(n, "ltt", 0.1))
    assert_ltt_holds(ltt, 0.1)
    crc = calibrate_repeatedly(drawn, loss, 0.1, "crc", size(n, "crc", 0.1))
    assert_crc_holds(crc, 0.1)


@pytest.mark.parametrize("alpha", [0.02, 0.05])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_other_levels_hold_too(alpha: float, confidence: float) -> None:
    for n in ("smallest", 400):
        units = size(n, "ltt", alpha, confidence)
        risks = calibrate_repeatedly(population(10), "wrong", alpha, "ltt", units, confidence)
        assert_ltt_holds(risks, alpha, confidence)


@pytest.mark.parametrize("method", ["ltt", "crc"])
def test_the_bars_would_notice_one_rank(method: str) -> None:
    """The power of these tests: thresholds one rank lower do not pass them."""
    drawn = population(1)
    worst, curve = drawn.worst("wrong"), RiskCurve(drawn.test, "wrong")
    lower = []
    for traces in drawn.calibration_sets(size("smallest", method, 0.1)):
        limit = np.float32(threshold(worst[traces], 0.1, method))
        lower.append(worst[traces][worst[traces] < limit].max(initial=-np.inf))
    check = assert_ltt_holds if method == "ltt" else assert_crc_holds
    with pytest.raises(AssertionError):
        check(curve.at(np.array(lower, dtype=np.float32)), 0.1)


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
