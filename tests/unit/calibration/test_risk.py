"""Thresholds against their definitions in exact arithmetic."""

import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.risk import (
    allowed_above,
    minimum_units,
    promise,
    require_units,
    smallest_alpha,
    threshold,
    units_missing,
)
from probes.errors import InputError, TooFewTraces

ALPHAS = ("0.01", "0.02", "0.03", "0.05", "0.1", "0.15", "0.25", "0.3", "0.5", "0.9")
CONFIDENCES = ("0.5", "0.8", "0.9", "0.95", "0.99")
UNITS = st.lists(st.sampled_from([-math.inf, -1.5, -0.25, 0.0, 0.1, 2.0, 7.0]), max_size=60)


def binomial_cdf(k: int, n: int, p: Fraction) -> Fraction:
    terms = (math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))
    return sum(terms, Fraction(0))


def certified(worst: list[float], limit: float, alpha: str, method: str, confidence: str) -> bool:
    """Whether a threshold may be used, straight from the two methods' definitions."""
    n, a = len(worst), Fraction(alpha)
    above = sum(np.float32(x) > np.float32(limit) for x in worst)
    if method == "crc":
        return Fraction(int(above) + 1, n + 1) <= a  # (n/(n+1)) mean loss + 1/(n+1)
    return binomial_cdf(int(above), n, a) <= 1 - Fraction(confidence)


@given(
    UNITS,
    st.sampled_from(ALPHAS),
    st.sampled_from(["ltt", "crc"]),
    st.sampled_from(CONFIDENCES),
)
@settings(deadline=None, max_examples=400)
def test_the_threshold_is_the_lowest_certified_one(worst, alpha, method, confidence) -> None:
    candidates = sorted({-math.inf, *worst})
    allowed = [t for t in candidates if certified(worst, t, alpha, method, confidence)]
    expected = np.float32(allowed[0]) if allowed else math.inf
    found = threshold(worst, float(alpha), method, float(confidence))
    assert found == expected
    # Certified thresholds form an upper set, so that the fixed sequence stops where it should.
    assert allowed == candidates[len(candidates) - len(allowed) :]


@given(UNITS, st.sampled_from(["ltt", "crc"]), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_order_does_not_matter_and_alpha_is_monotone(worst, method, random) -> None:
    limits = [threshold(worst, float(alpha), method) for alpha in ALPHAS]
    assert limits == sorted(limits, reverse=True)
    shuffled = worst.copy()
    random.shuffle(shuffled)
    assert [threshold(shuffled, float(alpha), method) for alpha in ALPHAS] == limits


@pytest.mark.parametrize(
    ("method", "confidence", "smallest"),
    [
        ("crc", 0.9, [9, 19, 33, 49, 99]),
        ("ltt", 0.9, [22, 45, 76, 114, 230]),
        ("ltt", 0.95, [29, 59, 99, 149, 299]),
    ],
)
def test_the_smallest_calibration_sets(method, confidence, smallest) -> None:
    alphas = (0.10, 0.05, 0.03, 0.02, 0.01)
    assert [minimum_units(method, alpha, confidence) for alpha in alphas] == smallest
    for alpha, n in zip(alphas, smallest, strict=True):
        worst = np.arange(n, dtype=np.float32)
        assert math.isfinite(threshold(worst, alpha, method, confidence))
        assert threshold(worst[1:], alpha, method, confidence) == math.inf
        assert units_missing(n, method, alpha, confidence) == 0
        assert units_missing(n - 7, method, alpha, confidence) == 7


@given(st.integers(1, 400), st.sampled_from(["ltt", "crc"]), st.floats(0.001, 0.999))
@settings(deadline=None)
def test_enough_units_is_the_same_as_a_threshold(n, method, alpha) -> None:
    assert (n >= minimum_units(method, alpha)) == (allowed_above(n, alpha, method, 0.9) >= 0)


def test_one_tenth_means_one_tenth() -> None:
    # In binary, (n + 1) * 0.1 falls short of a whole number for some n and exceeds it for others.
    for n in range(9, 2000, 10):
        assert allowed_above(n, 0.1, "crc", 0.9) == (n + 1) // 10 - 1


def test_too_few_is_refused_with_the_number_missing() -> None:
    with pytest.raises(TooFewTraces, match="at least 230, so 30 more") as error:
        require_units(200, "ltt", 0.01, 0.9)
    assert "alpha >= 0.012" in str(error.value)
    with pytest.raises(TooFewTraces, match="at least 99, so 98 more"):
        require_units(1, "crc", 0.01)
    require_units(99, "crc", 0.01)


def test_the_alpha_that_would_do_does() -> None:
    for n in (1, 5, 30, 200):
        alpha = smallest_alpha(n, "ltt", 0.9)
        assert alpha is not None
        assert minimum_units("ltt", alpha, 0.9) <= n
        assert minimum_units("ltt", alpha - 0.001, 0.9) > n
    assert smallest_alpha(0, "ltt") is None


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 1.5, math.nan, True])
def test_an_alpha_outside_the_unit_interval_is_refused(alpha) -> None:
    with pytest.raises(InputError, match="alpha"):
        threshold([1.0], alpha)


def test_other_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="ltt, crc"):
        threshold([1.0], 0.5, "hope")
    with pytest.raises(InputError, match="confidence"):
        threshold([1.0], 0.5, "ltt", 1.0)
    with pytest.raises(InputError, match="NaN"):
        threshold([math.nan] * 50, 0.5)


def test_no_units_give_no_threshold() -> None:
    assert threshold([], 0.5) == math.inf


def test_the_threshold_is_a_float32() -> None:
    found = threshold(np.full(100, 0.1), 0.1)
    assert found == float(np.float32(0.1)) != 0.1


def test_the_promise_says_what_it_is_and_is_not() -> None:
    ltt = promise("harm", 0.05, "ltt", 0.9, 300)
    assert "these 300" in ltt and "at most 0.05" in ltt and "confidence 0.9" in ltt
    assert "'harm'" in ltt and "Not for one given request" in ltt
    crc = promise("disagree", 0.05, "crc", 0.9, 300)
    assert "on average" in crc and "confidence" not in crc


def test_the_engine_side_imports_no_heavy_library() -> None:
    heavy = "sklearn mapie fastapi redis pyarrow matplotlib math_verify sympy pandas torch"
    code = (
        "import sys, calibration.risk, calibration.worst\n"
        f"print([m for m in {heavy.split()!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
