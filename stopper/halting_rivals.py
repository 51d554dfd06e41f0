"""Hand-picked halting rules beside a calibrated one, on the same decodes. They promise nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calibration.halting_outcomes import HaltingEvaluator, HaltingOutcome, cheapest_at
from stopper.halting import PRESETS, HaltingRule
from stopper.halting_policy import HaltingPolicy
from stopper.halting_shapes import scores_of

SCALES = np.geomspace(0.25, 64.0, 97)
"""Factors by which Prophet's thresholds are stretched for a comparison at equal agreement."""


def ours(evaluator: HaltingEvaluator, policy: HaltingPolicy, alpha: float) -> HaltingOutcome:
    """Replay an artifact's rule at an alpha.

    Raises
    ------
    InputError
        If the artifact has no level for that alpha.

    """
    scores = scores_of(policy.rule, evaluator.table)
    name = f"stopper, alpha {alpha:g}"
    return evaluator.outcome(name, scores, float(policy.level(alpha)), "risk")


def preset_outcome(evaluator: HaltingEvaluator, name: str) -> HaltingOutcome:
    """Replay one of the papers' settings, as it stands."""
    return evaluator.outcome(name, scores_of(PRESETS[name], evaluator.table), 0.0)


def stretched(rule: HaltingRule, factor: float) -> HaltingRule:
    """Multiply a schedule's thresholds."""
    shape = rule.schedule
    return replace(rule, schedule=replace(shape, high=shape.high * factor, low=shape.low * factor))


def prophet_curve(evaluator: HaltingEvaluator) -> list[HaltingOutcome]:
    """Replay Prophet with its thresholds stretched by :data:`SCALES`."""
    rules = [(factor, stretched(PRESETS["prophet"], float(factor))) for factor in SCALES]
    return [
        evaluator.outcome(f"prophet x {factor:.3g}", scores_of(rule, evaluator.table), 0.0)
        for factor, rule in rules
    ]


def prophet_at(evaluator: HaltingEvaluator, agreement: float) -> HaltingOutcome:
    """Give the cheapest stretched Prophet that agrees at least so often on these very decodes.

    It is tuned on what it is measured on, and so looks better than it is.
    """
    found = cheapest_at(prophet_curve(evaluator), agreement)
    return found if found is not None else replace(evaluator.full, rule="prophet, never halts")


def rows(evaluator: HaltingEvaluator, policy: HaltingPolicy, alpha: float) -> list[HaltingOutcome]:
    """Give every row of a comparison at one alpha: full decode, ours, rivals, oracle."""
    own = ours(evaluator, policy, alpha)
    return [
        evaluator.full,
        own,
        evaluator.budget(own.steps),
        prophet_at(evaluator, own.agreement),
        *(preset_outcome(evaluator, name) for name in PRESETS),
        evaluator.oracle(),
    ]
