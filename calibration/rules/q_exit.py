"""``q-exit``: stop when the cumulative exit probability passes (PALBERT)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from calibration.rules.scored import TraceRule
from calibration.table import CueTable


@dataclass(frozen=True)
class QExit(TraceRule):
    """Take p_j = sigmoid(score) as the chance to leave at cue j; stop when the sum is high.

    The chance to have left by cue t is 1 - prod(1 - p_j) (Balagansky and Gavrilov, "PALBERT",
    2022). It rises with -sum log(1 - p_j) = sum softplus(score_j), which does not saturate: that
    sum is the score here, added up in float64 in the order of the cues and rounded to float32 once.
    """

    name: ClassVar[str] = "q-exit"
    rising: ClassVar[bool] = True

    def score(self, table: CueTable) -> NDArray[np.float32]:
        """Give the running sum of softplus(score) within each trace."""
        sums = np.logaddexp(0.0, table.scores.astype(np.float64))
        counts = np.diff(table.offsets)
        # One step per cue number, over the traces that have so many: the sum of a trace must not
        # depend on the traces before it, as a running sum over all of them would.
        longest_first = np.argsort(-counts, kind="stable")
        starts, lengths = table.offsets[:-1][longest_first], counts[longest_first]
        for cue in range(1, int(counts.max(initial=0))):
            at = starts[: np.searchsorted(-lengths, -cue)] + cue
            sums[at] += sums[at - 1]
        return sums.astype(np.float32)
