"""``second-look``: near the threshold a short forced answer has its say, and only there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from calibration.evaluate import NEVER
from calibration.rules.base import Numbers, check_option, number
from calibration.rules.scored import TraceRule, cue_numbers
from calibration.table import UNKNOWN, CueTable, Looks
from probes.errors import InputError

SIGNALS = ("repeats", "confidence", "both")


@dataclass(frozen=True)
class SecondLook(TraceRule):
    """Add delta * c to the score, c in [-1, 1] from the answer forced at the cue.

    As in window-based cascades, the dearer signal is asked for only where it can matter: the sum is
    within `delta` of the score, so that outside the window [threshold - delta, threshold + delta]
    the decision is known without a look. The sum is calibrated by trace as any score is, and the
    answer tokens of every look that the rule has to take are counted.

    Attributes
    ----------
    delta
        Half the window, on the scale of the score (logits); positive.
    signal
        ``repeats``: c is 1 where the forced answer is the previous cue's, else -1; 0 at a trace's
        first cue, which has no previous one and needs no look. ``confidence``: c is twice the
        answer's confidence less 1. ``both``: their mean.
    """

    delta: float = 1.0
    signal: str = "both"

    name: ClassVar[str] = "second-look"

    def __post_init__(self) -> None:
        check_option(self.name, "delta", self.delta, 0, np.inf, "a positive number of logits")
        if self.signal not in SIGNALS:
            raise InputError(
                f"rule 'second-look': signal {self.signal!r} is unknown; choose one of "
                f"{', '.join(SIGNALS)}."
            )

    def score(self, table: CueTable) -> NDArray[np.float32]:
        """Give float32(score + float32(delta * c))."""
        return table.scores + np.float32(self.delta) * self._opinion(table)

    def looked(self, table: CueTable, found: Numbers) -> NDArray[np.bool_]:
        """Mark the cues whose decision needs a look, bool[n_cues], were they reached.

        Float32 rounding keeps order, so that the ends of what the sum can be decide exactly.
        """
        limit, delta = number(found, "threshold"), np.float32(self.delta)
        window = (table.scores - delta <= limit) & (table.scores + delta > limit)
        if self.signal == "repeats":
            window &= cue_numbers(table) > 0
        return window

    def extra_tokens(
        self, table: CueTable, stops: NDArray[np.int64], found: Numbers
    ) -> NDArray[np.int64]:
        """Count the answer tokens of all looks up to the stop.

        Where repetition matters a look needs the previous cue's answer as well; it is counted, once
        if that cue was looked at anyway.
        """
        looks, order = self._known(table), cue_numbers(table)
        last = np.where(stops == NEVER, table.offsets[1:] - 1, stops)
        asked = self.looked(table, found)
        asked &= np.arange(table.n_cues) <= last[table.rows]
        if self.signal != "confidence":
            asked[:-1] |= asked[1:] & (order[1:] > 0)
        spent = np.bincount(table.rows[asked], weights=looks.tokens[asked], minlength=len(table))
        return spent.astype(np.int64)

    def _opinion(self, table: CueTable) -> NDArray[np.float32]:
        looks = self._known(table)
        repeats = np.where(looks.repeats > 0, np.float32(1), np.float32(-1))
        repeats[cue_numbers(table) == 0] = 0
        if self.signal == "repeats":
            return repeats
        confident = np.float32(2) * np.clip(looks.confidences, 0, 1) - np.float32(1)
        return confident if self.signal == "confidence" else (repeats + confident) / np.float32(2)

    def _known(self, table: CueTable) -> Looks:
        looks = table.looks
        missing = None
        if looks is None or (looks.tokens == UNKNOWN).any():
            missing = "answer_tokens"
        elif self.signal != "confidence" and (looks.repeats == UNKNOWN).any():
            missing = "repeats"
        elif self.signal != "repeats" and np.isnan(looks.confidences).any():
            missing = "confidence"
        if looks is None or missing is not None:
            raise InputError(
                f"rule 'second-look' (signal {self.signal}): {missing} of the answers forced at "
                "the cues is unknown. Collect the traces again with `stopper collect`, give "
                f"cues[].{missing} in your own scores, or choose another rule."
            )
        return looks
