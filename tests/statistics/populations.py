"""Many calibration sets and one large test population, with the exact risk of any threshold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from calibration.losses import bad_cues
from calibration.simulate import SimulatorSettings, simulate
from calibration.table import CueTable
from calibration.worst import worst_bad_scores_flat

POOL = 100_000
TEST = 50_000


def calibration_sets(n: int, most: int = 400) -> list[slice]:
    """Disjoint runs of n traces of a pool: independent calibration sets."""
    return [slice(i * n, (i + 1) * n) for i in range(min(most, POOL // n))]


@dataclass(frozen=True, eq=False)
class Population:
    """A pool to draw calibration sets from, and test traces to judge them on."""

    pool: CueTable
    test: CueTable

    def worst(self, loss: str) -> NDArray[np.float32]:
        return worst_bad_scores_flat(self.pool.scores, bad_cues(self.pool, loss), self.pool.offsets)

    def cue_scores(self, traces: slice, loss: str) -> tuple[NDArray[np.float32], ...]:
        """Give the scores of good and of bad cues in a calibration set."""
        cues = slice(int(self.pool.offsets[traces.start]), int(self.pool.offsets[traces.stop]))
        bad = bad_cues(self.pool, loss)[cues]
        return self.pool.scores[cues][~bad], self.pool.scores[cues][bad]


@lru_cache(maxsize=2)
def population(cues: float, **dials: float) -> Population:
    pool = simulate(SimulatorSettings(POOL, cues=cues, seed=1000, **dials))
    test = simulate(SimulatorSettings(TEST, cues=cues, seed=2000, **dials))
    return Population(pool, test)


class RiskCurve:
    """The share of test traces stopped badly, exactly, at every threshold.

    A trace is stopped at its running record r_m, and at no other place, by the thresholds in
    [r_(m-1), r_m): a bad record adds one bad stop at r_(m-1) and takes it away at r_m. This knows
    nothing of x_i or of the replay in calibration/evaluate.py (which it is checked against).
    """

    def __init__(self, table: CueTable, loss: str) -> None:
        counts = np.diff(table.offsets)
        present = np.arange(int(counts.max())) < counts[:, None]
        scores = np.full(present.shape, -np.inf, dtype=np.float32)
        scores[present] = table.scores
        bad = np.zeros(present.shape, dtype=bool)
        bad[present] = bad_cues(table, loss)
        before = np.full_like(scores, -np.inf)
        np.maximum.accumulate(scores[:, :-1], axis=1, out=before[:, 1:])
        bad_record = bad & (scores > before)
        self._starts = np.sort(before[bad_record])
        self._ends = np.sort(scores[bad_record])
        self._n = len(table)

    def at(self, thresholds: NDArray[np.float32]) -> NDArray[np.float64]:
        begun = np.searchsorted(self._starts, thresholds, side="right")
        ended = np.searchsorted(self._ends, thresholds, side="right")
        return (begun - ended) / self._n
