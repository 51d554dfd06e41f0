"""Rules that are a score per cue and a threshold on it, and their calibration by trace.

Most stopping rules differ from the plain threshold only in their score.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from calibration.evaluate import first_cues
from calibration.losses import bad_cues
from calibration.risk import promise, require_units, threshold
from calibration.rules.base import FittedRule, Guarantee, Numbers, Rule, Terms, number
from calibration.rules.sequential import sequential_scores
from calibration.strings import digests
from calibration.table import CueTable
from calibration.worst import drawn_rollouts, reduce_rollouts, worst_bad_scores_flat


class ScoredRule(Rule):
    """Stop at the first cue whose score exceeds a threshold, both float32."""

    def score(self, table: CueTable) -> NDArray[np.float32]:
        """Give the rule's score, float32[n_cues]; -inf never stops. By default the probe's."""
        return table.scores

    def stops(self, table: CueTable, found: Numbers) -> NDArray[np.int64]:
        """Find the first cue of each trace above the threshold."""
        return first_cues(self.score(table) > number(found, "threshold"), table)


class TraceRule(ScoredRule):
    """A scored rule whose threshold is calibrated by trace: any score per cue will do.

    x_i is the highest score among the trace's bad running records of *this* score; LTT or CRC then
    hold as for the plain threshold (calibration/risk.py), whatever the score is made of, as long as
    it looks at nothing after the cue and no label. Where the score rises along a trace (`rising`),
    LTT goes by the bad stops themselves (calibration/rules/sequential.py).
    """

    guarantee: ClassVar[Guarantee] = "risk"
    any_alpha: ClassVar[bool] = True
    rising: ClassVar[bool] = False

    def _fit(self, table: CueTable, terms: Terms) -> FittedRule:
        if self.rising and terms.method == "ltt" and terms.rollouts == "one":
            require_units(table.n_groups, terms.method, terms.alpha, terms.confidence)
            drawn = one_each(table)
            worst = sequential_scores(drawn, self.score(drawn), bad_cues(drawn, terms.loss))
            limit = threshold(worst, terms.alpha, terms.method, terms.confidence)
        else:
            limit, worst = trace_threshold(table, self.score(table), terms)
        said = promise(terms.loss, terms.alpha, terms.method, terms.confidence, len(worst))
        notes: tuple[str, ...] = ()
        if limit == -np.inf:
            notes = ("bad stops are so rare here that the rule stops at its first chance",)
        return FittedRule(self, {"threshold": limit}, said, notes, worst)


def trace_threshold(
    table: CueTable,
    scores: NDArray[np.float32],
    terms: Terms,
    eligible: NDArray[np.bool_] | None = None,
) -> tuple[float, NDArray[np.float32]]:
    """Calibrate a threshold on any score by trace.

    Parameters
    ----------
    table
        The calibration traces.
    scores
        float32[n_cues], without NaN.
    terms
        Loss, alpha, method, confidence, rollouts.
    eligible
        bool[n_cues], the cues at which the rule may stop at all; every one by default.

    Returns
    -------
    float, float32[n_groups]
        The threshold, and the x_i in ascending order.

    Raises
    ------
    TooFewTraces
        When there are too few groups.
    """
    require_units(table.n_groups, terms.method, terms.alpha, terms.confidence)
    units = np.sort(trace_scores(table, scores, terms, eligible))
    return threshold(units, terms.alpha, terms.method, terms.confidence), units


def trace_scores(
    table: CueTable,
    scores: NDArray[np.float32],
    terms: Terms,
    eligible: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Give x_i of every unit under any score, float32[n_groups]; see :func:`trace_threshold`."""
    bad, offsets = bad_cues(table, terms.loss), table.offsets
    if eligible is not None:
        scores, bad = scores[eligible], bad[eligible]
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(eligible)])[offsets]
    worst = worst_bad_scores_flat(scores, bad, offsets)
    return by_unit(worst, table, terms.rollouts)


def by_unit(values: NDArray[np.float32], table: CueTable, rollouts: str) -> NDArray[np.float32]:
    """Reduce a number per trace to one per group, float32[n_groups], as `rollouts` says."""
    if table.n_groups == len(table):
        return values
    return reduce_rollouts(values, digests(table.trace_ids), table.group_codes, rollouts)


def one_each(table: CueTable) -> CueTable:
    """Keep one drawn rollout of each group."""
    if table.n_groups == len(table):
        return table
    return table.take(drawn_rollouts(table.trace_ids, table.groups))


def cue_numbers(table: CueTable) -> NDArray[np.int64]:
    """Give each cue its number within its trace, from 0; int64[n_cues]."""
    return np.arange(table.n_cues, dtype=np.int64) - table.offsets[:-1][table.rows]
