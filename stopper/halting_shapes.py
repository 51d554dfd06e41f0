"""Which shape a halting rule should have: a grid of shapes, and what each would cost.

The score of a step is its signal minus the schedule, and the calibrated level shifts the whole
schedule. Of a schedule from `high` to `low` only its fall, ``high - low``, is therefore left to
choose, with its kind and rate, the signal, and the gate. A shape is chosen on prompts of their own
(the split "select"); the level is then found on others, so that no correction is owed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.stats import betabinom

from calibration.denoising import DenoisingTable, worst_scores
from calibration.risk import DEFAULT_CONFIDENCE, allowed_above, require_units
from calibration.worst import drawn_rollouts
from probes.margins import REGIONS, SIGNALS
from stopper.errors import InputError
from stopper.halting import HaltingRule
from stopper.schedule import Kind, Schedule

FALLS = (0.0, 0.15, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Falls of the grid, in units of a signal's spread (from its 10th to its 90th percentile)."""
RATES = (2.0, 4.0, 8.0, 16.0)
"""Rates of the exponential schedules, the paper's."""


@dataclass(frozen=True)
class Candidate:
    """A shape and what it is expected to cost at the alpha asked for.

    Attributes
    ----------
    rule
        Its schedule lies so that its level on the select split is about 0.
    steps
        Mean passes a request, over the draw of the calibration split.
    """

    rule: HaltingRule
    steps: float


def scores_of(rule: HaltingRule, table: DenoisingTable) -> npt.NDArray[np.float32]:
    """Score every step of a table, float32 [n_steps]."""
    return rule.scores(table.column(rule.signal), table.progress, table.changed)


def units_of(table: DenoisingTable) -> DenoisingTable:
    """Draw one decode per group, by the hash of its name: rollouts of a prompt count once."""
    if len(set(table.groups)) == len(table):
        return table
    return table.select(np.sort(drawn_rollouts(table.trace_ids, table.groups)))


class StepCurve:
    """Mean passes a request at any level, from one sort of the running maxima.

    A block runs one pass more for each step up to which its highest score is not above the level,
    but never more than it has.
    """

    def __init__(self, scores: npt.NDArray[np.float32], table: DenoisingTable) -> None:
        running = _running_maximum(scores, table.block_offsets)
        self._below = np.sort(running)
        self._ends = np.sort(running[table.block_offsets[1:] - 1])
        self._n = len(table)

    def at(self, levels: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the mean passes at each of the levels."""
        limits = np.asarray(levels, dtype=np.float32)
        waited = np.searchsorted(self._below, limits, side="right")
        halted = len(self._ends) - np.searchsorted(self._ends, limits, side="right")
        return np.asarray((waited + halted) / self._n)


def grid(
    table: DenoisingTable,
    kinds: Sequence[Kind] = ("linear", "cosine", "exponential", "thirds"),
    gates: Sequence[bool] = (False, True),
) -> list[HaltingRule]:
    """List the shapes to choose from, simple ones first.

    Parameters
    ----------
    table
        The select split: falls are scaled by the spread of its signals.
    kinds, gates
        Schedules, and whether an argmax must be stable.

    Returns
    -------
    Every kind, fall and rate, for every recorded signal and gate; schedules end at 0.
    """
    found = []
    for region in REGIONS:
        for how in SIGNALS:
            if f"{region}.{how}" not in table.signals:
                continue
            spread = _spread(table.column(f"{region}.{how}"))
            for schedule in _schedules(spread, kinds):
                found += [HaltingRule(schedule, how, region, gate) for gate in gates]
    if not found:
        raise InputError("the decodes have no signal; record them again")
    return found


def choose_shape(
    select: DenoisingTable,
    n_calibrate: int,
    alpha: float,
    method: str = "ltt",
    confidence: float = DEFAULT_CONFIDENCE,
    shapes: Sequence[HaltingRule] | None = None,
) -> list[Candidate]:
    """Rank shapes by the steps that they are expected to take at an alpha.

    Parameters
    ----------
    select
        Full decodes that no other split shares.
    n_calibrate
        Units that the level will be found on.
    alpha, method, confidence
        See :mod:`calibration.risk`.
    shapes
        Default: :func:`grid` of the table.

    Returns
    -------
    All of them, the fewest steps first; of equal ones the earlier in the grid.

    Raises
    ------
    TooFewTraces
        If the calibration split cannot carry the alpha.
    InputError
        If there is nothing to choose on.

    Notes
    -----
    With k of the n calibrated units above the level, the share of requests above it is Beta(k + 1,
    n - k) over their draw, and the number of select units above it beta-binomial: the expected
    steps are a weighted mean over the select split's own order statistics.
    """
    units = units_of(select)
    if not len(units):
        raise InputError("there is no decode to choose a shape on; give the select split some")
    require_units(n_calibrate, method, alpha, confidence)
    above = allowed_above(n_calibrate, alpha, method, confidence)
    ranks = np.arange(len(units) + 1)
    chances = betabinom.pmf(ranks, len(units), above + 1, n_calibrate - above)
    ranks, chances = ranks[chances > 1e-6], chances[chances > 1e-6]
    typical = int(ranks[np.argmax(chances)])
    found = []
    for rule in grid(units) if shapes is None else shapes:
        scores = scores_of(rule, units)
        highest = np.sort(worst_scores(scores, units))[::-1]
        limits = np.append(highest, np.float32(-np.inf))[ranks]
        steps = float(StepCurve(scores, units).at(limits) @ chances / chances.sum())
        level = float(np.append(highest, np.float32(-np.inf))[typical])
        found.append(Candidate(_shifted(rule, level), steps))
    return sorted(found, key=lambda candidate: candidate.steps)


def _schedules(spread: float, kinds: Sequence[Kind]) -> list[Schedule]:
    found = [Schedule("linear", 0.0, 0.0)]  # constant
    for fall in (share * spread for share in FALLS[1:]):
        for kind in kinds:
            rates = RATES if kind == "exponential" else RATES[-1:]
            found += [Schedule(kind, _rounded(fall), 0.0, rate) for rate in rates]
    return found


def _spread(values: npt.NDArray[np.float32]) -> float:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 1.0
    low, high = np.quantile(finite.astype(np.float64), (0.1, 0.9))
    return float(high - low) or 1.0


def _rounded(value: float) -> float:
    """Keep two digits: a schedule is read by people."""
    return float(f"{value:.2g}")


def _shifted(rule: HaltingRule, level: float) -> HaltingRule:
    """Move a schedule by a level; one that is not finite leaves it where it is."""
    if not math.isfinite(level):
        return rule
    shape, by = rule.schedule, _rounded(level)
    high, low = (round(end + by, 6) for end in (shape.high, shape.low))
    return replace(rule, schedule=replace(shape, high=high, low=low))


def _running_maximum(
    scores: npt.NDArray[np.float32], offsets: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Take the running maximum of each block, float32 [n_steps]."""
    counts = np.diff(offsets)
    width = int(counts.max())
    present = np.arange(width) < counts[:, None]
    padded = np.full(present.shape, -np.inf, dtype=np.float32)
    padded[present] = scores
    return np.asarray(np.maximum.accumulate(padded, axis=1)[present])
