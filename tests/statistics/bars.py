"""What the repeated calibrations must clear, and what clearing it by luck would take.

For LTT the share of calibrations whose risk exceeds alpha is at most eps + 3 binomial standard
errors; for CRC the mean risk is at most alpha + 3 standard errors (of the draws and of the test
population). The risk of a threshold is exact on 50,000 other traces.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from populations import POOL, TEST, RiskCurve, calibration_sets, population
from scipy.stats import binom, norm

from calibration.risk import minimum_units, threshold

ALPHA, CONFIDENCE = 0.1, 0.9
SIGMAS = 3.0


@lru_cache(maxsize=16)
def worst_scores(cues: float, loss: str) -> np.ndarray:
    """x_i of the whole pool: all cells of this many cues and this loss draw from it."""
    return population(cues).worst(loss)


@lru_cache(maxsize=16)
def risk_curve(cues: float, loss: str) -> RiskCurve:
    return RiskCurve(population(cues).test, loss)


def size(n: int | str, method: str, alpha: float = ALPHA, confidence: float = CONFIDENCE) -> int:
    return minimum_units(method, alpha, confidence) if isinstance(n, str) else n


def calibrate_repeatedly(
    cues: float,
    loss: str,
    n: int,
    method: str,
    alpha: float = ALPHA,
    confidence: float = CONFIDENCE,
) -> np.ndarray:
    """Calibrate on each disjoint set; give the exact risk of each threshold."""
    worst = worst_scores(cues, loss)
    limits = [threshold(worst[traces], alpha, method, confidence) for traces in calibration_sets(n)]
    assert len(limits) >= 200
    assert np.isfinite(limits).any()
    return risk_curve(cues, loss).at(np.array(limits, dtype=np.float32))


def assert_ltt_holds(
    risks: np.ndarray, alpha: float = ALPHA, confidence: float = CONFIDENCE
) -> None:
    assert (risks > alpha).sum() <= most_exceeding(len(risks), 1 - confidence)


def assert_crc_holds(risks: np.ndarray, alpha: float = ALPHA) -> None:
    noise = math.sqrt(risks.var(ddof=1) / len(risks) + alpha * (1 - alpha) / TEST)
    assert risks.mean() <= alpha + SIGMAS * noise


BARS = {"ltt": assert_ltt_holds, "crc": assert_crc_holds}


def most_exceeding(repetitions: int, eps: float) -> int:
    return math.floor(repetitions * (eps + SIGMAS * math.sqrt(eps * (1 - eps) / repetitions)))


def chance_of_failing(method: str, n: int, eps: float = 1 - CONFIDENCE) -> float:
    """Bound the chance that a rule which just keeps its promise fails the bar of one cell."""
    if method == "crc":
        return float(norm.sf(SIGMAS))
    repetitions = min(400, POOL // n)
    return float(binom.sf(most_exceeding(repetitions, eps), repetitions, eps))
