"""Our exact LTT and CRC against MAPIE's two risk controllers, case by case.

LTT: BinaryClassificationController, one row per unit, (x_i, y_i = 0): its "fpr" is then the share
of units stopped badly. What stands between the two: its default grid ends at 0.99 (here the grid is
every threshold that could matter), `best_predict_param_choice` must be given, it stops at >= where
we stop at > (the grid lies between the values), and it rounds n * risk up, in binary, to the next
whole number, which for some n is one more than the count (then it may be more careful than need be,
never less). CRC: MultiLabelClassificationController, see by_mapie_crc.
"""

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from mapie.risk_control import BinaryClassificationController, MultiLabelClassificationController

from calibration.risk import allowed_above, threshold
from calibration.simulate import SimulatorSettings, simulate
from calibration.worst import worst_bad_scores


def by_mapie(worst: np.ndarray, alpha: float, confidence: float) -> float:
    """Give the lowest threshold that MAPIE's fixed sequence certifies; +inf for none."""
    values = np.unique(np.append(worst, -np.inf)).astype(np.float32)
    places = (np.searchsorted(values, worst) + 1) / (len(values) + 1)  # monotone in x, in (0, 1)
    # "x > values[j]" is "place >= halfway between places j and j + 1"; strictest first.
    grid = (np.arange(len(values)) + 1.5)[::-1] / (len(values) + 1)

    controller = BinaryClassificationController(
        predict_function=lambda rows: np.stack([1 - rows[:, 0], rows[:, 0]], axis=1),
        risk="fpr",
        target_level=alpha,
        confidence_level=confidence,
        best_predict_param_choice="fpr",
        list_predict_params=grid,
        fwer_method="fixed_sequence",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where no threshold is certified
        controller.calibrate(places[:, None], np.zeros(len(worst), dtype=int))
    if len(controller.valid_predict_params) == 0:
        return math.inf
    # A fixed sequence stops at its first failure: what is certified is a run from the start.
    passed = len(controller.valid_predict_params)
    assert np.array_equal(np.sort(controller.valid_predict_params)[::-1], grid[:passed])
    return float(values[len(values) - passed])


def differs_only_by_rounding(worst: np.ndarray, ours: float, theirs: float) -> bool:
    """Tell whether MAPIE halted, above our threshold, where n * (k / n) exceeds k in binary."""
    n, values = len(worst), np.unique(np.append(worst, -np.inf)).astype(np.float32)
    halted = values[values < theirs].max()
    above = int((worst > halted).sum())
    return theirs > ours and math.ceil(n * (above / n)) == above + 1


CASES = [
    (n, alpha, confidence, seed)
    for seed, n in enumerate((5, 21, 22, 29, 45, 49, 76, 100, 114, 150, 230, 299, 300))
    for alpha in (0.01, 0.05, 0.1, 0.25)
    for confidence in (0.9, 0.95)
]


@pytest.mark.parametrize(("n", "alpha", "confidence", "seed"), CASES)
@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "tied"])
def test_the_same_threshold(n: int, alpha: float, confidence: float, seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    worst = rng.normal(size=n)
    if ties:
        worst = np.round(2 * worst) / 2
    worst[rng.random(n) < 0.2] = -np.inf
    worst = worst.astype(np.float32)
    ours, theirs = threshold(worst, alpha, "ltt", confidence), by_mapie(worst, alpha, confidence)
    assert theirs == ours or differs_only_by_rounding(worst, ours, theirs)


def test_most_cases_agree_exactly() -> None:
    same = 0
    for n, alpha, confidence, seed in CASES:
        worst = np.random.default_rng(seed).normal(size=n).astype(np.float32)
        same += threshold(worst, alpha, "ltt", confidence) == by_mapie(worst, alpha, confidence)
    assert same >= 0.9 * len(CASES)


LOSSES = ("disagree", "wrong", "harm")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("cues", [1, 3, 10, 30])
@pytest.mark.parametrize("n", [22, 150, 300, 500])
def test_the_same_threshold_on_simulated_traces(loss: str, cues: int, n: int) -> None:
    worst = worst_bad_scores(simulate(SimulatorSettings(n, cues=cues, seed=9)), loss)
    for alpha in (0.02, 0.05, 0.1, 0.2):
        ours, theirs = threshold(worst, alpha, "ltt", 0.9), by_mapie(worst, alpha, 0.9)
        assert theirs == ours or differs_only_by_rounding(worst, ours, theirs)


def by_mapie_crc(worst: np.ndarray, alpha: float, near: float) -> float:
    """Give the lowest threshold that MAPIE's conformal risk control accepts; +inf for none.

    One row per unit with one label, predicted with probability 1 - place(x_i): the "recall" that
    MAPIE keeps above 1 - alpha is then the share of units that are not stopped badly. Its grid is
    the thresholds around `near`: it computes every unit's recall at every one by a Python loop.
    """
    values = np.unique(np.append(worst, -np.inf)).astype(np.float32)
    places = (np.searchsorted(values, worst) + 1) / (len(values) + 1)
    at = len(values) if math.isinf(near) and near > 0 else int(np.searchsorted(values, near))
    kept = np.arange(max(0, at - 3), min(len(values), at + 4))[::-1]
    controller = MultiLabelClassificationController(
        predict_function=lambda rows: 1 - rows,
        risk="recall",
        method="crc",
        target_level=1 - alpha,
        predict_params=1 - (kept + 1.5) / (len(values) + 1),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where nothing is accepted, and of its division
        controller.calibrate(places[:, None], np.ones((len(worst), 1), dtype=int))
    accepted = np.flatnonzero(controller.r_hat_plus < controller._alpha[0])
    if len(accepted) == 0:
        return math.inf  # MAPIE warns and returns the end of its grid
    assert controller.best_predict_param[0] == controller.predict_params[accepted[-1]]
    return float(values[kept[accepted[-1]]])


CRC_CASES = [(n, alpha) for n in (8, 9, 19, 22, 55, 150) for alpha in (0.03, 0.07, 0.1, 0.2)]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("n", "alpha"), CRC_CASES)
def test_the_same_threshold_by_conformal_risk_control(n: int, alpha: float, loss: str) -> None:
    """MAPIE wants the bound strictly below alpha: where it is alpha exactly, it is one rank off."""
    worst = worst_bad_scores(simulate(SimulatorSettings(n, cues=10, seed=n)), loss)
    ours = threshold(worst, alpha, "crc")
    theirs = by_mapie_crc(worst, alpha, ours)
    if (Fraction(str(alpha)) * (n + 1)).denominator == 1:
        # The next stricter rank, or the same value where scores tie.
        stricter = np.sort(np.append(worst, np.inf))[-allowed_above(n, alpha, "crc", 0.9) - 1]
        assert ours <= theirs <= stricter
    else:
        assert theirs == ours
