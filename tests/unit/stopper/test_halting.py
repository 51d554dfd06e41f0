"""Halting rules: one score a step, the same in numpy, over columns and on a device."""

from __future__ import annotations

import doctest
import json
import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import stopper.halting
from probes.margins import REGIONS, SIGNALS
from probes.torch_margins import halting_scores
from stopper.errors import InputError
from stopper.halting import (
    NO_GUARANTEE,
    PRESETS,
    PROGRESS_SCOPES,
    HaltingRule,
    preset,
    progress_at,
)
from stopper.schedule import Kind, Schedule

any_float = st.floats(width=32)
levels = st.floats(width=32, allow_nan=False)


@st.composite
def rules(draw: st.DrawFn) -> HaltingRule:
    ends = sorted(draw(st.tuples(st.floats(-20, 20), st.floats(-20, 20))))
    kind: Kind = draw(st.sampled_from(get_args(Kind)))
    return HaltingRule(
        Schedule(kind, ends[1], ends[0], draw(st.floats(0.5, 32.0))),
        draw(st.sampled_from(SIGNALS)),
        draw(st.sampled_from(REGIONS)),
        draw(st.booleans()),
    )


def slow_halts(
    rule: HaltingRule, signal: float, step: int, steps: int, changed: bool, level: float
) -> bool:
    """Spell the rule out: a margin above its threshold plus the level, and an open gate."""
    progress = np.float32(step / (steps - 1)) if steps > 1 else np.float32(1.0)
    shape = rule.schedule
    span, p = shape.high - shape.low, float(progress)
    threshold = {
        "linear": shape.low + span * (1.0 - p),
        "cosine": shape.low + span * ((1.0 + math.cos(math.pi * p)) / 2.0),
        "exponential": shape.low + span * math.exp(-shape.rate * p),
        "thirds": shape.low + span * (1.0 if 3 * p < 1 else 0.5 if 3 * p < 2 else 0.0),
    }[shape.kind]
    with np.errstate(all="ignore"):
        ahead = np.float32(np.float32(signal) - np.float32(threshold))
    gate = not (rule.stable_argmax and changed)
    return bool(math.isfinite(ahead) and gate and ahead > np.float32(level))


@settings(deadline=None)
@given(rules(), any_float, st.integers(1, 40), st.data(), st.booleans(), levels)
def test_it_halts_where_the_margin_is_far_enough_above_the_schedule(
    rule: HaltingRule, signal: float, steps: int, data: st.DataObject, changed: bool, level: float
) -> None:
    step = data.draw(st.integers(0, steps - 1))
    progress = progress_at(step, steps)
    assert rule.halts(signal, progress, changed, level) == slow_halts(
        rule, signal, step, steps, changed, level
    )
    # The table that a device indexes holds the same thresholds.
    assert rule.thresholds(steps)[step] == rule.threshold(progress)


@settings(deadline=None)
@given(
    rules(),
    st.lists(st.tuples(any_float, st.integers(0, 12), st.booleans()), max_size=30),
    levels,
)
def test_columns_and_a_device_decide_as_the_rule_does_one_by_one(
    rule: HaltingRule, steps: list[tuple[float, int, bool]], level: float
) -> None:
    signal = np.array([one[0] for one in steps], dtype=np.float32)
    index = np.array([one[1] for one in steps], dtype=np.int64)
    changed = np.array([one[2] for one in steps], dtype=np.bool_)
    progress = np.array([progress_at(step, 13) for step in index], dtype=np.float32)
    want = np.array(
        [rule.score(s, p, c) for s, p, c in zip(signal, progress, changed, strict=True)],
        dtype=np.float32,
    )
    np.testing.assert_array_equal(rule.scores(signal, progress, changed), want)
    table = torch.from_numpy(rule.thresholds(13))
    gate = torch.from_numpy(changed) if rule.stable_argmax else None
    found = halting_scores(torch.from_numpy(signal), table[torch.from_numpy(index)], gate)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), want)
    halts = [rule.halts(s, p, c, level) for s, p, c in zip(signal, progress, changed, strict=True)]
    assert (found > torch.tensor(level, dtype=torch.float32)).tolist() == halts


@settings(deadline=None)
@given(st.floats(-50, 50, width=32), st.floats(0, 1))
@pytest.mark.parametrize("kind", get_args(Kind))
def test_at_level_nought_it_is_the_schedule_itself(
    kind: Kind, margin: float, progress: float
) -> None:
    rule = HaltingRule(Schedule(kind))
    rounded = float(np.float32(progress))
    assert rule.halts(margin, progress, False) == rule.schedule.halts(margin, rounded)


@pytest.mark.parametrize("signal", [math.nan, math.inf, -math.inf, 1e300])
def test_what_is_not_finite_never_halts_at_any_level(signal: float) -> None:
    rule = HaltingRule(Schedule(high=0.0, low=-1e30))
    assert rule.score(signal, 1.0, changed=False) == -np.inf
    assert not rule.halts(signal, 1.0, changed=False, level=-math.inf)


def test_the_gate_forbids_a_step_whose_argmax_moved() -> None:
    rule = HaltingRule(Schedule(high=0.0, low=0.0), stable_argmax=True)
    assert rule.halts(1.0, 0.5, changed=False)
    assert not rule.halts(1.0, 0.5, changed=True)
    assert not rule.halts(1.0, 0.5, changed=True, level=-math.inf)
    assert HaltingRule(rule.schedule).halts(1.0, 0.5, changed=True)


@pytest.mark.parametrize(
    ("level", "halts"), [(math.inf, False), (-math.inf, True), (math.nan, False)]
)
def test_an_infinite_level_halts_never_or_at_once(level: float, halts: bool) -> None:
    assert HaltingRule().halts(1.0, 0.0, changed=True, level=level) is halts


def test_progress_runs_from_nought_to_one_and_one_step_is_the_end() -> None:
    assert [progress_at(step, 3) for step in range(3)] == [0.0, 0.5, 1.0]
    assert progress_at(0, 1) == 1.0
    assert progress_at(1, 4) == float(np.float32(1 / 3))
    assert PROGRESS_SCOPES == ("block", "canvas")


@pytest.mark.parametrize(("step", "steps"), [(0, 0), (0, -1), (3, 3), (-1, 3)])
def test_a_step_that_does_not_exist_is_refused(step: int, steps: int) -> None:
    with pytest.raises(InputError, match="does not exist"):
        progress_at(step, steps)


@pytest.mark.parametrize("steps", [0, -3])
def test_a_table_of_no_steps_is_refused(steps: int) -> None:
    with pytest.raises(InputError, match="at least one denoising step"):
        HaltingRule().thresholds(steps)


@pytest.mark.parametrize("progress", [-1e-9, 1.0000001, math.nan, math.inf])
def test_progress_outside_is_refused_before_it_is_rounded(progress: float) -> None:
    with pytest.raises(InputError, match="progress"):
        HaltingRule().score(1.0, progress, changed=False)


@settings(deadline=None)
@given(rules())
def test_a_rule_survives_json(rule: HaltingRule) -> None:
    fields = json.loads(json.dumps(rule.to_json()))
    assert HaltingRule.from_json(fields) == rule
    assert sorted(fields) == sorted(
        ["kind", "high", "low", "rate", "aggregate", "region", "stable_argmax"]
    )


def test_what_json_leaves_out_is_as_a_fresh_rule_has_it() -> None:
    assert HaltingRule.from_json({}) == HaltingRule()
    assert HaltingRule.from_json({"kind": "linear", "high": 9}) == HaltingRule(
        Schedule("linear", 9.0, 2.5)
    )
    named = HaltingRule.from_json({"preset": "prophet", "stable_argmax": True})
    assert named == HaltingRule(Schedule("thirds", 7.5, 2.5), stable_argmax=True)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (None, "object of fields"),
        ([], "object of fields"),
        ({"level": 0.0}, "field 'level' is unknown"),
        ({"high": "7.5"}, "high must be a number"),
        ({"high": True}, "high must be a number"),
        ({"high": 10**400}, "finite"),
        ({"low": None}, "low must be a number"),
        ({"stable_argmax": 1}, "stable_argmax must be true or false"),
        ({"aggregate": 3}, "aggregate must be a string"),
        ({"aggregate": "mode"}, "aggregate 'mode' is unknown; choose one of mean"),
        ({"region": "prompt"}, "region 'prompt' is unknown; choose one of masked"),
        ({"kind": "parabola"}, "kind 'parabola' is unknown; choose one of linear"),
        ({"high": 1.0, "low": 2.0}, "high at least low"),
        ({"rate": math.nan}, "rate"),
        ({"preset": "sched-exp-5"}, "preset 'sched-exp-5' is unknown; choose one of sched-linear"),
        ({"preset": ["prophet"]}, "is unknown; choose one of"),
    ],
)
def test_json_that_is_no_rule_is_refused(fields: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        HaltingRule.from_json(fields)


def test_the_papers_settings_have_names_and_no_promise() -> None:
    assert set(PRESETS) == {
        *(f"sched-{kind}{more}" for more in ("", "-aggressive")
          for kind in ("linear", "cosine", "exp-2", "exp-4", "exp-8", "exp-16")),
        "prophet",
    }  # fmt: skip
    for name, rule in PRESETS.items():
        assert rule.schedule.high == 7.5
        assert rule.schedule.low == (0.0 if name.endswith("aggressive") else 2.5)
        assert rule.signal == "masked.mean"
    assert preset("sched-exp-16").schedule.rate == 16.0
    assert PRESETS["prophet"].thresholds(7).tolist() == [7.5, 7.5, 5.0, 5.0, 2.5, 2.5, 2.5]
    assert "no guarantee" in NO_GUARANTEE


def test_the_examples_hold() -> None:
    assert doctest.testmod(stopper.halting).failed == 0
