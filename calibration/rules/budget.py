"""``budget``: as few stops as a fixed mean number of thinking tokens allows (EERO)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from calibration.losses import get_loss
from calibration.rules.base import FittedRule, Guarantee, Terms, check_option
from calibration.rules.scored import ScoredRule, one_each, trace_scores
from calibration.rules.sequential import running_records
from calibration.table import CueTable
from probes.errors import InputError


@dataclass(frozen=True)
class Budget(ScoredRule):
    """Take the highest threshold whose expected thinking tokens stay within a budget.

    The goal turned round, as in EERO (Valade et al., 2024): the cost is promised and the risk is
    reported. Thinking tokens rise with the threshold and are bounded by `longest`, so that
    conformal risk control for bounded monotone losses applies: with n traces, the highest threshold
    at which (tokens of all n + longest) / (n + 1) <= `tokens` keeps the mean of a new trace within
    `tokens`, on average over calibration draws (a refusal counts as no tokens). The threshold of
    the plain mean, tokens of all n / n, is given beside it and promises nothing.

    The risk that this costs is bounded for all thresholds at once, hence also for the one chosen:
    with probability `confidence` the share of x_i above a threshold exceeds the observed one by at
    most sqrt(log(1 / (1 - confidence)) / 2n) anywhere (Dvoretzky-Kiefer-Wolfowitz, with Massart's
    constant, one-sided, which needs confidence >= 1/2).

    Attributes
    ----------
    tokens
        The budget: expected thinking tokens per trace.
    longest
        More thinking tokens than any trace can have: the engine's limit. It is what the promise
        rests on, so it is given, not estimated.
    """

    tokens: float
    longest: float

    name: ClassVar[str] = "budget"
    guarantee: ClassVar[Guarantee] = "tokens"
    numbers: ClassVar[tuple[str, ...]] = ("threshold", "plain_threshold", "risk_bound")

    def __post_init__(self) -> None:
        for name in ("tokens", "longest"):
            wanted = "a positive number of thinking tokens"
            check_option(self.name, name, getattr(self, name), 0, np.inf, wanted)

    def _fit(self, table: CueTable, terms: Terms) -> FittedRule:
        if terms.rollouts != "one":
            raise InputError(
                "rule 'budget': the mean is over requests, one rollout drawn for each; leave "
                "--rollouts at one."
            )
        if terms.confidence < 0.5:
            raise InputError(
                f"rule 'budget': confidence is {terms.confidence:g}; its bound on the risk "
                "needs at least 0.5."
            )
        units = one_each(table)
        over = int(units.tokens.max())
        if over > self.longest:
            raise InputError(
                f"rule 'budget': longest is {self.longest:g}, but a calibration trace has {over} "
                "thinking tokens; give the longest that the engine allows."
            )
        limits, totals = tokens_by_threshold(units)
        n = len(units)
        allowed = np.flatnonzero(totals + self.longest <= self.tokens * (n + 1))
        if allowed.size == 0:
            least, needed = totals[0] / n, (totals[0] + self.longest) / (n + 1)
            raise InputError(
                f"rule 'budget': {self.tokens:g} tokens cannot be promised: stopping every trace "
                f"at its first cue takes {least:.1f} on average, and {needed:.1f} with the "
                f"allowance for one unseen trace of {self.longest:g}. Give a larger budget"
                + (", or more calibration traces." if least <= self.tokens else ".")
            )
        limit = float(limits[allowed[-1]])
        plain = float(limits[np.flatnonzero(totals <= self.tokens * n)[-1]])
        above = float((trace_scores(units, units.scores, terms) > np.float32(limit)).mean())
        slack = math.sqrt(math.log(1 / (1 - terms.confidence)) / (2 * n))
        bound = min(1.0, above + slack)
        said = (
            f"Over new requests exchangeable with these {n}, thinking takes at most "
            f"{self.tokens:g} tokens in the mean, on average over the draw of the calibration "
            f"traces, as long as no trace is longer than {self.longest:g}. The risk is not chosen "
            f"but bounded: at most {bound:.4g} are stopped early {get_loss(terms.loss).meaning} "
            f"(loss '{terms.loss}'), with confidence {terms.confidence:g}. Not for one given "
            "request; not under another model, revision, quantization, template, sampling setting "
            "or task mix."
        )
        found = {"threshold": limit, "plain_threshold": plain, "risk_bound": bound}
        return FittedRule(self, found, said)


def tokens_by_threshold(table: CueTable) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Give the thinking tokens of all traces together at every threshold that matters.

    Returns
    -------
    float32[m], int64[m]
        Ascending thresholds from -inf to +inf, and the total tokens when stopping above each; it
        is constant from one threshold to just before the next.

    Notes
    -----
    A threshold that reaches a running record moves the stop on to the next record, or to the end
    of the trace after its last: each record adds the tokens between.
    """
    records = np.flatnonzero(running_records(table, table.scores))
    rows = table.rows[records]
    ends = table.tokens[rows]
    same = np.flatnonzero(rows[1:] == rows[:-1])
    ends[same] = table.positions[records[same + 1]]
    added = ends - table.positions[records]
    base = int(table.tokens.sum()) - int(added.sum())
    values, inverse = np.unique(table.scores[records], return_inverse=True)
    steps = np.bincount(inverse, weights=added, minlength=len(values)).astype(np.int64)
    totals = base + np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(steps)])
    limits = np.concatenate([[-np.inf], values, [np.inf]]).astype(np.float32)
    return limits, np.append(totals, totals[-1])
