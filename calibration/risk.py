"""Trace-level risk control in its exact form: scores of traces become a threshold with a promise.

The unit is one request. Stop at the first cue with ``float32(score) > float32(threshold)``. For
unit i, x_i is the highest score among its bad cues that are running records (the only bad cues at
which some threshold would stop it), or -inf; calibration/worst.py finds it. The loss of unit i at
threshold t, made monotone, is 1{x_i > t}, so that every method below only decides how many of the
x_i may lie above t:

* ``ltt`` (Learn then Test; here a distribution-free tolerance limit): the largest k with
  BinomCDF(k; n, alpha) <= 1 - confidence. At most alpha is stopped badly, with that confidence over
  the draw of the calibration traces.
* ``crc`` (conformal risk control; for this 0/1 loss, split conformal prediction with x_i as the
  nonconformity score): floor((n + 1) alpha) - 1. At most alpha is stopped badly on average over
  calibration draws.

The threshold is the (k + 1)-th largest x_i, or +inf (never stop) when n is too small for any k.

References: Angelopoulos, Bates, Candès, Jordan, Lei, "Learn then Test" (2021); Angelopoulos, Bates,
Fisch, Lei, Schuster, "Conformal Risk Control" (2022); Wilks, "Determination of Sample Sizes for
Setting Tolerance Limits" (1941).

This module runs inside the engine: it needs numpy and scipy.special, nothing else.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr

from calibration.losses import get_loss
from calibration.worst import worst_bad_scores
from probes.errors import InputError, TooFewTraces

__all__ = [
    "DEFAULT_CONFIDENCE",
    "METHODS",
    "allowed_above",
    "check_alpha",
    "minimum_units",
    "promise",
    "require_units",
    "smallest_alpha",
    "threshold",
    "units_missing",
    "worst_bad_scores",
]

METHODS = ("ltt", "crc")
DEFAULT_CONFIDENCE = 0.9


def allowed_above(n: int, alpha: float, method: str, confidence: float) -> int:
    """Count how many of n units may have x_i above the threshold; -1 if no threshold is allowed.

    `alpha` and `confidence` are taken as the decimals they print as, so that 0.1 means one tenth.
    """
    _check(alpha, method, confidence)
    if method == "crc":
        return math.floor((n + 1) * Fraction(repr(float(alpha)))) - 1
    epsilon = float(1 - Fraction(repr(float(confidence))))
    low, high = -1, n  # the CDF is <= epsilon at low (by convention at -1) and above it at high
    while high - low > 1:
        middle = (low + high) // 2
        if bdtr(middle, n, alpha) <= epsilon:
            low = middle
        else:
            high = middle
    return low


def threshold(
    worst: ArrayLike, alpha: float, method: str = "ltt", confidence: float = DEFAULT_CONFIDENCE
) -> float:
    """Give the lowest threshold that keeps the promise; exact for any alpha.

    Parameters
    ----------
    worst
        float32[n_units], the x_i, in any order.
    alpha
        Tolerated share of badly stopped requests, in (0, 1).
    method
        ``ltt`` or ``crc``.
    confidence
        Of the promise over calibration draws, in (0, 1); ``crc`` has none and ignores it.

    Returns
    -------
    A float32 value: stop where float32(score) > threshold. +inf (never stop) when there are too few
    units for this alpha, which callers that talk to people turn into :func:`require_units`; -inf
    (stop at the first cue) when even that is bad too rarely to matter.

    Raises
    ------
    InputError
        When an argument is out of its range or an x_i is NaN.
    """
    units = np.asarray(worst, dtype=np.float32).ravel()
    above = allowed_above(len(units), alpha, method, confidence)
    if above < 0:
        return math.inf
    if np.isnan(units).any():
        raise InputError("a calibration score is NaN; score the calibration traces again.")
    rank = len(units) - 1 - above
    return float(np.partition(units, rank)[rank])


def minimum_units(method: str, alpha: float, confidence: float = DEFAULT_CONFIDENCE) -> int:
    """Give the smallest number of units for which a finite threshold can exist.

    Examples
    --------
    >>> [minimum_units("crc", alpha) for alpha in (0.10, 0.05, 0.03, 0.02, 0.01)]
    [9, 19, 33, 49, 99]
    >>> [minimum_units("ltt", alpha, 0.9) for alpha in (0.10, 0.05, 0.03, 0.02, 0.01)]
    [22, 45, 76, 114, 230]
    """
    _check(alpha, method, confidence)
    if method == "crc":
        return math.ceil(1 / Fraction(repr(float(alpha)))) - 1
    # (1 - alpha)^n <= epsilon; the logarithm may be one off at the edge, the definition decides.
    guess = math.log(1 - confidence) / math.log1p(-alpha)
    n = max(1, math.floor(guess) - 1)
    while allowed_above(n, alpha, method, confidence) < 0:
        n += 1
    return n


def units_missing(n: int, method: str, alpha: float, confidence: float = DEFAULT_CONFIDENCE) -> int:
    """Count the further units needed before a threshold can exist; 0 if there are enough."""
    return max(0, minimum_units(method, alpha, confidence) - n)


def require_units(
    n: int, method: str, alpha: float, confidence: float = DEFAULT_CONFIDENCE
) -> None:
    """Refuse a promise that n units cannot carry.

    Raises
    ------
    TooFewTraces
        Saying how many more traces are needed, and which alpha the present ones would allow.
    """
    missing = units_missing(n, method, alpha, confidence)
    if not missing:
        return
    asked = f"alpha {alpha:g}" + (f" at confidence {confidence:g}" if method == "ltt" else "")
    smallest = smallest_alpha(n, method, confidence)
    other = "" if smallest is None else f", or settle for alpha >= {smallest:g} with what you have"
    raise TooFewTraces(
        f"{n} calibration traces (rollouts of one group count once) are too few for {asked} by "
        f"{method}: it needs at least {n + missing}, so {missing} more. Collect {missing} more "
        f"traces of other prompts{other}."
    )


def smallest_alpha(n: int, method: str, confidence: float = DEFAULT_CONFIDENCE) -> float | None:
    """Give the smallest alpha, in thousandths, for which n units suffice; None if there is none."""
    for thousandths in range(1, 1000):
        if minimum_units(method, thousandths / 1000, confidence) <= n:
            return thousandths / 1000
    return None


def promise(loss: str, alpha: float, method: str, confidence: float, n: int) -> str:
    """Word what an artifact promises, and what it does not."""
    meaning = get_loss(loss).meaning
    _check(alpha, method, confidence)
    kept = (
        f"with confidence {confidence:g} over the draw of the calibration traces"
        if method == "ltt"
        else "on average over the draw of the calibration traces"
    )
    return (
        f"Over new requests exchangeable with these {n}, at most {alpha:g} are stopped early "
        f"{meaning} (loss '{loss}'), {kept}. Not for one given request; not under another model, "
        "revision, quantization, template, sampling setting or task mix."
    )


def check_alpha(alpha: float) -> None:
    """Refuse an alpha outside (0, 1)."""
    if isinstance(alpha, bool) or not 0 < alpha < 1:
        raise InputError(f"alpha is {alpha}; give a share strictly between 0 and 1, such as 0.05.")


def _check(alpha: float, method: str, confidence: float) -> None:
    if method not in METHODS:
        raise InputError(f"method {method!r} is unknown; choose one of {', '.join(METHODS)}.")
    check_alpha(alpha)
    if isinstance(confidence, bool) or not 0 < confidence < 1:
        raise InputError(
            f"confidence is {confidence}; give a number strictly between 0 and 1, such as 0.9."
        )
