"""Learn then Test without making the loss monotone: sharper where scores rise along a trace.

x_i (calibration/worst.py) counts a trace as stopped badly at every threshold below its highest bad
record, though a lower threshold may stop it well, and earlier. For a score that rises along the
trace every cue is a record, and the difference is large.

The remedy is LTT's fixed sequence test. Go down all float32 thresholds from the highest, an order
that no data has a say in. At each, k traces are stopped badly in fact, and BinomCDF(k; n, alpha) is
a valid p-value for "the risk here exceeds alpha"; halt at the first above 1 - confidence. The first
threshold of the order whose risk does exceed alpha is passed with probability at most
1 - confidence, so that with the confidence none such is passed.

For ``crc``, whose proof needs the monotone loss, and for ``rollouts`` "worst" x_i stay.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.table import CueTable


def sequential_scores(
    table: CueTable, scores: NDArray[np.float32], bad: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Give numbers that stand in for the x_i in :func:`calibration.risk.threshold`.

    Parameters
    ----------
    table
        One trace per unit.
    scores
        float32[n_cues], without NaN.
    bad
        bool[n_cues], the loss of a stop at each cue.

    Returns
    -------
    float32[n_traces], ascending. The (k + 1)-th largest is the lowest threshold at and above which
    never more than k traces are stopped badly; -inf where that is every threshold.
    """
    starts, ends = bad_intervals(table, scores, bad)
    limits = np.unique(np.concatenate([starts, ends]))[::-1]
    begun = np.searchsorted(np.sort(starts), limits, side="right")
    ended = np.searchsorted(np.sort(ends), limits, side="right")
    # Traces stopped badly from each limit to just below the one before; the most so far.
    most = np.maximum.accumulate(begun - ended)
    exceeded = np.searchsorted(most, np.arange(len(table)), side="right")
    units = np.full(len(table), -np.inf, dtype=np.float32)
    broken = exceeded < len(limits)
    # Above the highest limit nothing is stopped badly, so that what is exceeded has one before it.
    units[broken] = limits[exceeded[broken] - 1]
    return units[::-1].copy()


def bad_intervals(
    table: CueTable, scores: NDArray[np.float32], bad: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give the thresholds, from start to just below end, at which a bad record stops its trace.

    A trace is stopped at its running record r_m by the thresholds in [r_(m-1), r_m), and at no
    other cue.
    """
    records = np.flatnonzero(running_records(table, scores))
    rows = table.rows[records]
    before = np.full(len(records), -np.inf, dtype=np.float32)
    same = np.flatnonzero(rows[1:] == rows[:-1])
    before[same + 1] = scores[records[same]]
    chosen = bad[records]
    return before[chosen], scores[records][chosen]


def running_records(table: CueTable, scores: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mark the cues whose score exceeds all before them in their trace; bool[n_cues]."""
    values, ranks = np.unique(scores, return_inverse=True)
    # The trace's number above the rank: one running maximum then restarts at every trace.
    keys = table.rows * len(values) + ranks
    records = np.ones(len(keys), dtype=np.bool_)
    records[1:] = keys[1:] > np.maximum.accumulate(keys)[:-1]
    return records
