"""Shaping a whole trace, a growing trace, and a batch of traces gives the same bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.network import MAX_SCORE
from probes.shaping import RunningShape, shape, weight_of
from probes.spec import ProbeSpec
from probes.torch_network import shape_scores

LARGEST = float(np.float32(MAX_SCORE))
FINITE = st.floats(-LARGEST, LARGEST, width=32)
SCORES = st.lists(st.one_of(FINITE, st.just(float("nan"))), max_size=30)


def spec(shaping: str = "rise", weight: float = 0.5) -> ProbeSpec:
    fields = {"kind": "linear", "layers": (1,), "hidden_size": 1, "shaping": shaping}
    return ProbeSpec.model_validate(fields | {"rise_weight": weight})


def test_level_plus_rise() -> None:
    assert shape([2.0, -1.0, 0.0, 3.0], spec()).tolist() == [2.0, -1.0, 0.5, 5.0]


def test_raw_is_the_score() -> None:
    assert shape([2.0, -1.0], spec("raw")).tolist() == [2.0, -1.0]
    assert weight_of(spec("raw")) == 0.0


def test_nan_stays_nan_and_leaves_the_minimum_alone() -> None:
    shaped = shape([np.nan, 1.0, np.nan, 3.0], spec())
    np.testing.assert_array_equal(shaped, np.array([np.nan, 1.0, np.nan, 4.0], "f4"))


def test_empty() -> None:
    assert shape([], spec()).shape == (0,)


@settings(max_examples=300, deadline=None)
@given(scores=SCORES, weight=st.sampled_from([0.0, 0.1, 0.25, 0.5, 1 / 3, 1.0, 7.3]))
def test_whole_running_and_batched_agree_to_the_bit(scores: list[float], weight: float) -> None:
    kind = spec(weight=weight)
    raw = np.array(scores, dtype=np.float32)
    whole = shape(raw, kind)
    running = RunningShape(kind)
    pushed = [running.push(score) for score in raw]
    assert all(isinstance(value, np.float32) for value in pushed)
    lows, batched = torch.full((3,), torch.inf), []
    for score in raw:
        column = torch.full((3,), float(score))
        shaped, lows = shape_scores(column, lows, weight_of(kind))
        batched.append(float(shaped[1]))
    for twin in (pushed, batched):
        np.testing.assert_array_equal(whole, np.array(twin, dtype=np.float32))
    # No score of a probe can overflow: infinity would pass for an order to stop.
    assert not np.isinf(whole).any()


@pytest.mark.parametrize("weight", [0.5, 1e6])
def test_the_largest_scores_stay_finite(weight: float) -> None:
    shaped = shape([-MAX_SCORE, MAX_SCORE], spec(weight=weight))
    assert np.isfinite(shaped).all()
