"""``timer``: a token budget, the same for every request; needs no probe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from calibration.rules.scored import TraceRule
from calibration.table import CueTable


@dataclass(frozen=True)
class Timer(TraceRule):
    """Stop at the first cue after so many thinking tokens.

    The guaranteed baseline without any signal: the position itself is the score, so that its
    threshold keeps alpha as every other's does. Whatever a probe is worth, it is worth beyond this.
    """

    name: ClassVar[str] = "timer"
    rising: ClassVar[bool] = True

    def score(self, table: CueTable) -> NDArray[np.float32]:
        """Give the position; exact below 2^24 tokens, and of the same order beyond."""
        return table.positions.astype(np.float32)
