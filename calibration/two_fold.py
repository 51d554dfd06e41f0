"""Comparing probes on few traces: calibrate on one half of the prompts, judge on the other.

Each half serves both ways, over several random halvings. What the two-fold figures promise nothing
about is the winner of a comparison: the best of many looks better than it is. The threshold that is
served is calibrated later, on prompts of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.evaluate import replay, threshold_stops
from calibration.losses import bad_cues
from calibration.risk import minimum_units, threshold, worst_bad_scores
from calibration.table import CueTable
from probes.errors import TooFewTraces

HALVINGS = 20


@dataclass(frozen=True, slots=True)
class TwoFold:
    """Means over all folds.

    Attributes
    ----------
    saved
        Share of all thinking tokens saved.
    bad_share
        Share of traces stopped badly.
    stopped_share
        Share of traces stopped at all.
    halvings
        How often the prompts were halved; each gives two folds.
    """

    saved: float
    bad_share: float
    stopped_share: float
    halvings: int


def require_halves(n_groups: int, alpha: float, confidence: float) -> None:
    """Refuse too few groups: each half must carry the promise by itself.

    Raises
    ------
    TooFewTraces
        Saying how many groups are needed.
    """
    needed = 2 * minimum_units("ltt", alpha, confidence)
    if n_groups < needed:
        raise TooFewTraces(
            f"{n_groups} prompts to choose probes by: each half of them must carry alpha {alpha:g} "
            f"at confidence {confidence:g}, which needs {needed} together. Collect more prompts, "
            "raise --select-fraction, or choose at a larger --alpha"
        )


def two_fold(
    table: CueTable,
    loss: str,
    alpha: float,
    confidence: float,
    halvings: int = HALVINGS,
    seed: int = 0,
) -> TwoFold:
    """Measure what a score saves under the trace-level promise (LTT), on prompts not calibrated on.

    Parameters
    ----------
    table
        Scored, labelled traces that the probe was not fitted to.
    loss, alpha, confidence
        See :mod:`calibration.losses` and :mod:`calibration.risk`.
    halvings
        Random halvings by group.
    seed
        The same seed halves the same groups alike, so that probes are compared pairwise.

    Raises
    ------
    TooFewTraces
        When a half could not carry the promise.
    InputError
        When a label that the loss needs is missing.
    """
    require_halves(table.n_groups, alpha, confidence)
    _, group = np.unique(np.array(list(table.groups)), return_inverse=True)
    rng = np.random.default_rng(seed)
    folds = []
    for _ in range(halvings):
        first = rng.permutation(table.n_groups)[group] < table.n_groups // 2
        folds.append(_fold(table, first, loss, alpha, confidence))
        folds.append(_fold(table, ~first, loss, alpha, confidence))
    tokens, full, bad, stopped, n = np.sum(folds, axis=0)
    return TwoFold(1 - tokens / full if full else 0.0, bad / n, stopped / n, halvings)


def _fold(
    table: CueTable, calibrating: NDArray[np.bool_], loss: str, alpha: float, confidence: float
) -> tuple[float, float, float, float, float]:
    known, fresh = (table.take(np.flatnonzero(half)) for half in (calibrating, ~calibrating))
    limit = threshold(np.sort(worst_bad_scores(known, loss)), alpha, "ltt", confidence)
    found = replay("", fresh, bad_cues(fresh, loss), threshold_stops(fresh, limit))
    n = len(fresh)
    return (
        found.tokens * n, float(fresh.tokens.sum()), found.bad_stops, found.stopped_share * n, n,
    )  # fmt: skip
