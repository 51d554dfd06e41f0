"""LYNX's rule against its own words and against MAPIE, class by class."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import expit

from calibration.conformal import MapiePerCue, conformal_rank, lynx_threshold
from probes.errors import InputError


def logits(fewest: int) -> st.SearchStrategy[np.ndarray]:
    tenths = st.lists(st.integers(-40, 40), min_size=fewest, max_size=60)
    return tenths.map(lambda values: np.array(values, dtype=np.float32) / np.float32(10))


DELTAS = st.sampled_from([0.05, 0.1, 0.15, 0.25, 0.3, 0.5])
GRID = np.arange(-50, 51, dtype=np.float32) / np.float32(10)


def mapie_agrees_on_the_rank(n: int, delta: float) -> bool:
    """MAPIE ranks in binary, which for some n is one higher, and wants more than 1/delta rows."""
    alpha = 1 - (1 - delta)
    enough = n >= max(1 / alpha, 1 / (1 - alpha))
    return bool(enough and np.ceil((n + 1) * (1 - alpha)) == conformal_rank(n, delta) <= n)


def quantile(nonconformity: np.ndarray, delta: float) -> float:
    rank = conformal_rank(len(nonconformity), delta)
    return math.inf if rank > len(nonconformity) else np.sort(nonconformity)[rank - 1]


@given(logits(1), logits(1), DELTAS)
@settings(deadline=None, max_examples=200)
def test_lynx_is_two_quantiles_of_one_minus_p(good, bad, delta) -> None:
    # As the paper words it, on probabilities in float64, where a rank beyond n is infinite.
    p_good, p_bad, p = (expit(x.astype(np.float64)) for x in (good, bad, GRID))
    q_right, q_wrong = quantile(1 - p_good, delta), quantile(p_bad, delta)
    exits = (1 - p <= q_right) & (p > q_wrong)
    assert (lynx_threshold(good, bad, delta) < GRID).tolist() == exits.tolist()


@given(logits(21), logits(21), DELTAS)
@settings(deadline=None, max_examples=40)
def test_lynx_is_mapie_run_on_each_class(good, bad, delta) -> None:
    """MAPIE's own classifier, conformalised on one class at a time, gives LYNX's two quantiles."""
    none = np.zeros(0, dtype=np.float32)
    assume(mapie_agrees_on_the_rank(len(good), delta))
    assume(mapie_agrees_on_the_rank(len(bad), delta))
    of_good = MapiePerCue(good, none, delta)._classifier
    of_bad = MapiePerCue(none, bad, delta)._classifier
    right_in = of_good.predict_set(GRID[:, None])[1][:, 1, 0].astype(bool)
    wrong_in = of_bad.predict_set(GRID[:, None])[1][:, 0, 0].astype(bool)
    assert (lynx_threshold(good, bad, delta) < GRID).tolist() == (right_in & ~wrong_in).tolist()


@given(logits(21), logits(21), DELTAS)
@settings(deadline=None, max_examples=40)
def test_mapie_pools_the_cues(good, bad, delta) -> None:
    assume(mapie_agrees_on_the_rank(len(good) + len(bad), delta))
    p_good, p_bad, p = (expit(x.astype(np.float64)) for x in (good, bad, GRID))
    q = quantile(np.concatenate([1 - p_good, p_bad]), delta)
    exits = (1 - p - q <= 1e-8) & ~(p - q <= 1e-8)  # MAPIE's own tolerance
    assert MapiePerCue(good, bad, delta).passes(GRID).tolist() == exits.tolist()


def test_the_rank_is_exact_and_never_clamped() -> None:
    assert [conformal_rank(n, 0.1) for n in (9, 10, 19, 99)] == [9, 10, 18, 90]
    assert conformal_rank(8, 0.1) == 9


def test_too_few_bad_cues_never_stop() -> None:
    assert lynx_threshold(np.arange(100), np.arange(8), 0.1) == math.inf
    assert lynx_threshold(np.arange(100), [], 0.1) == math.inf


def test_too_few_good_cues_leave_the_other_bar() -> None:
    assert lynx_threshold([], np.arange(19), 0.1) == 17.0


def test_a_larger_delta_can_stop_less() -> None:
    """The dial that runs backwards: fewer good cues clear their own, risen bar."""
    good, bad = np.linspace(5, 9, 200), np.linspace(-9, -5, 200)
    assert lynx_threshold(good, bad, 0.3) > lynx_threshold(good, bad, 0.05)


def test_mapie_refuses_too_few_cues() -> None:
    with pytest.raises(InputError, match="8 cues are too few"):
        MapiePerCue(np.arange(4), np.arange(4), 0.1)


def test_delta_outside_the_unit_interval_is_refused() -> None:
    with pytest.raises(InputError, match="alpha"):
        lynx_threshold([1.0], [1.0], 1.0)
