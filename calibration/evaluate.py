"""Replay of stopping rules over recorded traces: what each would have cost and risked.

A trace stopped at a cue costs ``cue.position`` thinking tokens and answers what was forced there;
one that is never stopped costs ``trace.tokens`` and gives its own answer. Nothing is extrapolated:
every number comes from labels in the records, and where a label is missing the number is None.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from calibration.table import NO, UNKNOWN, CueTable
from probes.errors import InputError

#: Two-sided level of the intervals around shares of bad stops.
INTERVAL_LEVEL = 0.95

NEVER = -1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a rule does on a data set.

    Attributes
    ----------
    rule
        Its name, as printed.
    accuracy
        Share of right answers; None where a label that it needs is unknown.
    tokens
        Mean thinking tokens per trace.
    bad_stops
        Traces stopped at a cue whose loss is 1; a whole number but for randomised rules.
    bad_stop_share, bad_stop_interval
        Their share, with the Clopper-Pearson interval (None for randomised rules).
    stopped_share
        Share of traces stopped at all.
    threshold
        The rule's, where it has one.
    extra_tokens
        Mean tokens per trace generated beside the thinking, to decide.
    tokens_error
        Standard error of `tokens`, as if traces of one group were the same trace; None for one
        group.
    """

    rule: str
    accuracy: float | None
    tokens: float
    bad_stops: float
    bad_stop_share: float
    bad_stop_interval: tuple[float, float] | None
    stopped_share: float
    threshold: float | None = None
    extra_tokens: float = 0.0
    tokens_error: float | None = None


def first_cues(passing: NDArray[np.bool_], table: CueTable) -> NDArray[np.int64]:
    """Find where a rule stops: the first passing cue of each trace.

    Parameters
    ----------
    passing
        bool[n_cues].
    table
        The traces.

    Returns
    -------
    int64[n_traces], indices into the cue columns; -1 where the trace is never stopped.
    """
    stops = np.full(len(table), NEVER, dtype=np.int64)
    cues = np.flatnonzero(passing)[::-1]  # backwards: the first cue of a trace is assigned last
    stops[table.rows[cues]] = cues
    return stops


def threshold_stops(table: CueTable, threshold: float) -> NDArray[np.int64]:
    """Stop at the first cue with score > threshold, both float32, as the engine does."""
    return first_cues(table.scores > np.float32(threshold), table)


def oracle_stops(table: CueTable, bad: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Stop at the first cue whose loss is 0, else never: what no rule can know."""
    return first_cues(~bad, table)


def budget_stops(table: CueTable, budget: float) -> NDArray[np.int64]:
    """Stop at the first cue at or after `budget` tokens: the answer forced there is on record."""
    return first_cues(table.positions >= budget, table)


def never_stops(table: CueTable) -> NDArray[np.int64]:
    """Let every trace think to its end."""
    return np.full(len(table), NEVER, dtype=np.int64)


def replay(
    rule: str,
    table: CueTable,
    bad: NDArray[np.bool_],
    stops: NDArray[np.int64],
    threshold: float | None = None,
    extra: NDArray[np.int64] | None = None,
) -> Outcome:
    """Account for a rule's stops.

    Parameters
    ----------
    rule
        The name to print.
    table
        The traces, at least one.
    bad
        bool[n_cues], the loss of stopping at each cue.
    stops
        int64[n_traces], from one of the functions above.
    threshold
        Carried into the outcome.
    extra
        int64[n_traces], tokens generated beside the thinking; none by default.
    """
    if len(table) == 0:
        raise InputError("there are no traces to evaluate; give at least one.")
    stopped = stops != NEVER
    at = stops[stopped]
    badly = np.zeros(len(table), dtype=np.bool_)
    badly[stopped] = bad[at]
    tokens = table.tokens.copy()
    tokens[stopped] = table.positions[at]
    answers = table.full_correct.copy()
    answers[stopped] = table.correct[at]
    n, groups = len(table), table.n_groups
    return Outcome(
        rule=rule,
        accuracy=None if (answers == UNKNOWN).any() else float(1 - (answers == NO).mean()),
        tokens=float(tokens.mean()),
        bad_stops=int(badly.sum()),
        bad_stop_share=float(badly.mean()),
        bad_stop_interval=clopper_pearson(int(badly.sum()), n, effective_n(badly, table)),
        stopped_share=float(stopped.mean()),
        threshold=threshold,
        extra_tokens=0.0 if extra is None else float(extra.mean()),
        tokens_error=float(tokens.std() / math.sqrt(groups - 1)) if groups > 1 else None,
    )


def equal_budget(rule: str, table: CueTable, bad: NDArray[np.bool_], tokens: float) -> Outcome:
    """Tune a fixed token budget to given mean tokens: the baseline that needs no probe.

    Mean tokens rise with the budget in steps, so that two neighbouring budgets are mixed at random,
    request by request, to meet `tokens` exactly; the outcome is the mixture's expectation. Budgets
    below the first cue or beyond the last trace cannot be mixed further: then the nearest is given.
    """
    budgets = np.concatenate([[0], np.unique(table.positions) + 1])

    def outcome(index: int) -> Outcome:
        return replay(rule, table, bad, budget_stops(table, float(budgets[index])))

    low, high = 0, len(budgets) - 1
    while high - low > 1:  # mean tokens <= target at low (unless none is), > target at high
        middle = (low + high) // 2
        if outcome(middle).tokens <= tokens:
            low = middle
        else:
            high = middle
    under, over = outcome(low), outcome(high)
    span = over.tokens - under.tokens
    weight = 0.0 if span <= 0 else min(1.0, max(0.0, (tokens - under.tokens) / span))

    def mix(first: float, second: float) -> float:
        return first + weight * (second - first)

    unknown = under.accuracy is None or over.accuracy is None
    return replace(
        under,
        accuracy=None if unknown else mix(under.accuracy or 0.0, over.accuracy or 0.0),
        tokens=mix(under.tokens, over.tokens),
        bad_stops=mix(under.bad_stops, over.bad_stops),
        bad_stop_share=mix(under.bad_stop_share, over.bad_stop_share),
        bad_stop_interval=None,
        stopped_share=mix(under.stopped_share, over.stopped_share),
        threshold=mix(float(budgets[low]), float(budgets[high])),
    )


def effective_n(badly: NDArray[np.bool_], table: CueTable) -> float:
    """Give the number of independent traces that rollouts of shared prompts are worth.

    Korn and Graubard (1998): the binomial variance over the cluster-robust one. Without repeated
    groups it is the number of traces; with k = 0 or k = n, where no variance shows, the number of
    groups.
    """
    n = len(table)
    groups = table.n_groups
    if groups == n:
        return float(n)
    share = float(badly.mean())
    if share in (0.0, 1.0):
        return float(groups)
    sums = np.bincount(table.group_codes, weights=badly - share)
    correction = groups / max(1, groups - 1)
    variance = correction * float((sums**2).sum()) / n**2
    return float(n) if variance <= 0 else min(float(n), share * (1 - share) / variance)


def clopper_pearson(
    count: int, n: int, effective: float | None = None, level: float = INTERVAL_LEVEL
) -> tuple[float, float]:
    """Bound a share from above and below, exactly.

    Parameters
    ----------
    count, n
        Events among trials.
    effective
        The number of independent trials that `n` clustered ones are worth; `n` by default.
    level
        Two-sided.

    Examples
    --------
    >>> low, high = clopper_pearson(0, 10)
    >>> round(low, 4), round(high, 4)
    (0.0, 0.3085)
    """
    size = float(n) if effective is None else effective
    events = count / n * size
    tail = (1 - level) / 2
    low = 0.0 if count == 0 else float(betaincinv(events, size - events + 1, tail))
    high = 1.0 if count == n else float(betaincinv(events + 1, size - events, 1 - tail))
    return low, high


def auroc(scores: NDArray[np.float32], good: NDArray[np.bool_]) -> float:
    """Give the area under the ROC curve of all cues pooled; NaN when there is one class only."""
    n_good, n_bad = int(good.sum()), int((~good).sum())
    if not n_good or not n_bad:
        return math.nan
    bad_scores = np.sort(scores[~good])
    below = np.searchsorted(bad_scores, scores[good], side="left")
    not_above = np.searchsorted(bad_scores, scores[good], side="right")
    return float((below + not_above).sum() / 2 / n_good / n_bad)
