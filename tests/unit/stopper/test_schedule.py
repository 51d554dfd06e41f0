"""SchED's thresholds over progress."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stopper.errors import InputError
from stopper.schedule import Kind, Schedule, mean_margin

KINDS: tuple[Kind, ...] = get_args(Kind)
every_kind = pytest.mark.parametrize("kind", KINDS)
margins = st.floats(-50.0, 50.0, width=32)


@pytest.mark.parametrize(
    ("kind", "half", "end"),
    [
        ("linear", 5.0, 2.5),
        ("cosine", 5.0, 2.5),
        ("exponential", 2.5 + 5.0 * math.exp(-2.0), 2.5 + 5.0 * math.exp(-4.0)),
        ("thirds", 5.0, 2.5),
    ],
)
def test_the_threshold_begins_high_and_falls_as_the_paper_says(
    kind: Kind, half: float, end: float
) -> None:
    schedule = Schedule(kind, high=7.5, low=2.5, rate=4.0)
    assert schedule.threshold(0.0) == np.float32(7.5)
    assert schedule.threshold(0.5) == np.float32(half)
    assert schedule.threshold(1.0) == np.float32(end)


@every_kind
@settings(deadline=None)
@given(a=st.floats(0, 1), b=st.floats(0, 1), ends=st.tuples(margins, margins))
def test_the_threshold_never_rises_and_stays_between_its_ends(
    kind: Kind, a: float, b: float, ends: tuple[float, float]
) -> None:
    schedule = Schedule(kind, high=max(ends), low=min(ends), rate=8.0)
    early, late = schedule.threshold(min(a, b)), schedule.threshold(max(a, b))
    assert early >= late
    slack = np.float32(1e-5)
    assert min(ends) - slack <= late <= early <= max(ends) + slack


@every_kind
@given(progress=st.floats(0, 1), level=margins)
def test_a_schedule_may_stay_where_it_is(kind: Kind, progress: float, level: float) -> None:
    assert Schedule(kind, high=level, low=level).threshold(progress) == np.float32(level)


def test_prophet_steps_down_at_the_thirds() -> None:
    schedule = Schedule("thirds", high=7.5, low=2.5)
    below = [math.nextafter(third, 0.0) for third in (1 / 3, 2 / 3)]
    assert [schedule.threshold(p) for p in (0.0, below[0], 1 / 3)] == [7.5, 7.5, 5.0]
    assert [schedule.threshold(p) for p in (below[1], 2 / 3, 1.0)] == [5.0, 2.5, 2.5]


@every_kind
@settings(deadline=None)
@given(margin=margins, progress=st.floats(0, 1))
def test_it_halts_above_the_threshold_only(kind: Kind, margin: float, progress: float) -> None:
    schedule = Schedule(kind)
    assert schedule.halts(margin, progress) == (np.float32(margin) > schedule.threshold(progress))


@pytest.mark.parametrize("margin", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_never_halts(margin: float) -> None:
    assert not Schedule(high=0.0, low=-9.0).halts(margin, 1.0)


@settings(deadline=None)
@given(st.lists(margins, min_size=1, max_size=40))
def test_the_margin_of_a_region_is_its_mean(values: list[float]) -> None:
    assert mean_margin(values) == np.float32(np.mean(np.float64(values)))


def test_a_mean_beyond_any_float_is_infinite_without_a_warning() -> None:
    assert mean_margin([1e308, 1e308, 1e308]) == np.inf


@pytest.mark.parametrize("progress", [-0.01, 1.01, math.nan])
def test_progress_outside_is_refused(progress: float) -> None:
    with pytest.raises(InputError, match="progress"):
        Schedule().threshold(progress)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"high": 1.0, "low": 2.0}, "high at least low"),
        ({"high": math.inf}, "finite"),
        ({"high": 1e31}, "finite"),
        ({"low": -1e31}, "finite"),
        ({"low": math.nan}, "finite"),
        ({"rate": 0.0}, "rate"),
        ({"rate": math.inf}, "rate"),
        ({"kind": "cubic"}, "kind 'cubic' is unknown"),
    ],
)
def test_a_schedule_that_rises_or_is_no_number_is_refused(
    fields: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        Schedule(**fields)
