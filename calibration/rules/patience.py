"""``patience``: the score must pass twice in a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from calibration.rules.scored import TraceRule, cue_numbers
from calibration.table import CueTable


@dataclass(frozen=True)
class Patience(TraceRule):
    """Stop at the second of two neighbouring cues whose scores both exceed the threshold.

    Both exceed it when the lower one does: the score is the minimum of the last two. The first cue
    of a trace has no neighbour and never stops. After Zhou et al., "BERT Loses Patience" (2020),
    where the agreement of neighbouring exits plays the part of the threshold.
    """

    name: ClassVar[str] = "patience"

    def score(self, table: CueTable) -> NDArray[np.float32]:
        """Give the minimum of this cue's score and the one before; -inf at a first cue."""
        before = np.full(table.n_cues, -np.inf, dtype=np.float32)
        before[1:] = table.scores[:-1]
        before[cue_numbers(table) == 0] = -np.inf
        return np.minimum(before, table.scores)
