"""Shape and level of a halting rule tested together, with a correction for how many (MAPIE)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from calibration.denoising import DenoisingTable, replay, worst_scores
from calibration.simultaneous import Correction, valid_candidates
from stopper.errors import InputError
from stopper.halting import HaltingRule
from stopper.halting_shapes import Candidate, scores_of

SHAPES, LEVELS = 6, 6
"""How many shapes are tested, the most promising ones, and the levels of each."""


def certify(
    select: DenoisingTable,
    units: DenoisingTable,
    ranked: Sequence[Candidate],
    alpha: float,
    confidence: float,
    correction: Correction,
) -> tuple[HaltingRule, float, float, dict[str, JsonValue]]:
    """Test the best shapes at several levels, and take the certified one of the fewest passes.

    Parameters
    ----------
    select, units
        One decode a group. The candidates are made of the first alone, so that they are fixed for
        the second, on which they are tested.
    ranked
        Shapes, the most promising first.
    alpha, confidence, correction
        See :mod:`calibration.simultaneous`.

    Returns
    -------
    The rule, its level, its mean passes, and what was tested.

    Raises
    ------
    TooFewTraces
        When no candidate could be certified on so few units.
    InputError
        When none was.

    """
    tried: list[tuple[HaltingRule, float]] = []
    for candidate in ranked[:SHAPES]:
        worst = worst_scores(scores_of(candidate.rule, select), select)
        tried += [(candidate.rule, level) for level in _levels(worst, alpha)]
    losses, passes = _outcomes(tried, units)
    learning = _outcomes(tried, select)[0] if correction == "split_fixed_sequence" else None
    valid = valid_candidates(losses, alpha, confidence, correction, learning)
    if not len(valid):
        raise InputError(
            f"none of {len(tried)} candidates could be certified at alpha {alpha:g} by "
            f"{correction} on {len(units)} prompts. Record more, allow a larger alpha, or use "
            "--method ltt, which owes no such correction"
        )
    best = int(valid[np.argmin(passes[valid])])
    rule, level = tried[best]
    tested: dict[str, JsonValue] = {
        "correction": correction, "tested": len(tried), "certified": len(valid)
    }  # fmt: skip
    return rule, level, float(passes[best]), tested


def _levels(worst: npt.NDArray[np.float32], alpha: float) -> list[float]:
    """Place levels where from none to a share alpha of the select units lies above."""
    finite = worst[np.isfinite(worst)]
    if not finite.size:
        return [0.0]
    shares = 1 - alpha * np.linspace(0.0, 1.0, LEVELS)
    # Of all units, also of those that no level halts badly; "higher" never lands on their -inf
    # unless they are all that is left.
    levels = np.quantile(worst, shares, method="higher")
    levels = np.where(np.isfinite(levels), levels, finite.min())
    return [float(level) for level in np.unique(levels)]


def _outcomes(
    tried: Sequence[tuple[HaltingRule, float]], table: DenoisingTable
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Replay candidates: bool [n_units, n_candidates] whether bad, and each one's mean passes."""
    losses = np.empty((len(table), len(tried)), dtype=np.bool_)
    passes = np.empty(len(tried), dtype=np.float64)
    for index, (rule, level) in enumerate(tried):
        told = replay(scores_of(rule, table), level, table)
        losses[:, index], passes[index] = ~told.agree, told.steps.mean()
    return losses, passes
