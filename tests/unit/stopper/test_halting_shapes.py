"""The grid of shapes, what each would cost, and which is chosen."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from calibration.denoising import replay, worst_scores
from calibration.denoising_simulation import DenoisingSettings, simulate_denoising
from calibration.risk import threshold
from stopper.errors import InputError, TooFewTraces
from stopper.halting import HaltingRule
from stopper.halting_shapes import StepCurve, choose_shape, grid, scores_of, units_of
from stopper.schedule import Schedule

SELECT = simulate_denoising(DenoisingSettings(120, steps=12, seed=1))
BLOCKS = simulate_denoising(DenoisingSettings(60, steps=7, blocks=3, seed=2))
SHAPES = [
    HaltingRule(Schedule("linear", 0.0, 0.0), "min"),
    HaltingRule(Schedule("linear", 6.0, 0.0), "quantile"),
    HaltingRule(Schedule("exponential", 6.0, 0.0, 4.0), "mean", "span", True),
]


@pytest.mark.parametrize("table", [SELECT, BLOCKS], ids=["one block", "three blocks"])
def test_the_curve_of_passes_is_the_replay(table: object) -> None:
    for rule in SHAPES:
        scores = scores_of(rule, table)  # type: ignore[arg-type]
        levels = np.r_[-np.inf, np.quantile(scores[np.isfinite(scores)], [0, 0.3, 0.7, 1]), np.inf]
        told = [replay(scores, level, table).steps.mean() for level in levels]  # type: ignore[arg-type]
        assert StepCurve(scores, table).at(levels) == pytest.approx(told)  # type: ignore[arg-type]


def test_scores_are_the_rules_own_step_by_step() -> None:
    few = SELECT.select(range(5))
    for rule in SHAPES:
        column = few.column(rule.signal)
        slow = [
            rule.score(column[i], float(few.progress[i]), bool(few.changed[i]))
            for i in range(few.n_steps)
        ]
        np.testing.assert_array_equal(scores_of(rule, few), np.array(slow))


def test_a_schedule_moved_as_a_whole_halts_at_the_same_steps() -> None:
    """Why the grid holds falls alone: the level takes up the rest."""
    high, low = SHAPES[1], replace(SHAPES[1], schedule=Schedule("linear", 16.0, 10.0))
    limits = [threshold(worst_scores(scores_of(rule, SELECT), SELECT), 0.1) for rule in (high, low)]
    assert limits[0] - limits[1] == pytest.approx(10.0, abs=1e-4)
    steps = [
        replay(scores_of(rule, SELECT), limit, SELECT).steps.mean()
        for rule, limit in zip((high, low), limits, strict=True)
    ]
    assert steps[0] == pytest.approx(steps[1], rel=0.01)


def test_the_grid_has_every_kind_signal_and_gate_once() -> None:
    shapes = grid(SELECT)
    assert len(set(shapes)) == len(shapes)
    assert {rule.signal for rule in shapes} == set(SELECT.signals)
    assert {rule.schedule.kind for rule in shapes} == {"linear", "cosine", "exponential", "thirds"}
    assert {rule.stable_argmax for rule in shapes} == {True, False}
    assert shapes[0].schedule.high == shapes[0].schedule.low


def test_the_cheapest_shape_comes_first_and_lies_at_level_zero() -> None:
    ranked = choose_shape(SELECT, 200, 0.1, shapes=SHAPES)
    assert [c.steps for c in ranked] == sorted(c.steps for c in ranked)
    worst = worst_scores(scores_of(ranked[0].rule, SELECT), SELECT)
    spread = np.ptp(worst[np.isfinite(worst)])
    assert abs(threshold(worst, 0.1)) < 0.2 * spread


def test_expected_passes_are_those_over_many_calibrations() -> None:
    """The beta-binomial mean, against levels drawn from calibration sets of the same traffic."""
    many = simulate_denoising(DenoisingSettings(20_000, steps=12, seed=5))
    select = many.select(range(4000))
    expected = choose_shape(select, 100, 0.1, shapes=SHAPES[1:2])[0].steps
    scores = scores_of(SHAPES[1], many)
    worst = worst_scores(scores, many)[4000:].reshape(160, 100)
    levels = [threshold(row, 0.1) for row in worst]
    assert StepCurve(scores, many).at(levels).mean() == pytest.approx(expected, rel=0.02)


def test_rollouts_of_a_prompt_count_once() -> None:
    twice = replace(SELECT, groups=tuple(f"g{i // 2}" for i in range(120)))
    assert len(units_of(twice)) == 60
    assert len(set(units_of(twice).groups)) == 60
    assert units_of(SELECT) is SELECT


def test_too_few_prompts_to_calibrate_on_are_refused_with_the_number_missing() -> None:
    with pytest.raises(TooFewTraces, match="30 more"):
        choose_shape(SELECT, 15, 0.05, shapes=SHAPES)


def test_nothing_to_choose_on_is_refused() -> None:
    with pytest.raises(InputError, match="select split"):
        choose_shape(SELECT.select([]), 100, 0.1, shapes=SHAPES)


def test_signals_without_a_finite_number_never_halt_and_break_nothing() -> None:
    blind = replace(SELECT, values=np.full_like(SELECT.values, np.nan))
    ranked = choose_shape(blind, 100, 0.1)
    assert ranked[0].steps == pytest.approx(12.0)
    assert all(math.isfinite(c.rule.schedule.high) for c in ranked)
