"""``hopeless``: a second, lower threshold stops the thinking that will lead nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from calibration.evaluate import first_cues
from calibration.risk import promise
from calibration.rules.base import FittedRule, Guarantee, Numbers, Rule, Terms, check_option, number
from calibration.rules.scored import trace_threshold
from calibration.table import CueTable


@dataclass(frozen=True)
class Hopeless(Rule):
    """Stop at the first cue above an upper threshold or, late enough, below a lower one.

    The idea is that of "Conformal Thinking" (arXiv 2602.03814): a trace whose score stays low after
    much thinking will hardly become right, and cutting it costs a wrong answer nothing. It saves
    most for the loss ``harm``, to which a trace that ends wrong anyway cannot be stopped badly.

    The upper threshold is the plain one at `share` of alpha and of 1 - confidence. The lower is
    calibrated by the same means on the score with its sign turned, among the eligible cues, on the
    rest of both. Proof that the two keep alpha: if the pair stops a trace at cue t by its upper
    threshold, no cue before t passed that one, so that it alone stops at t too, just as badly;
    likewise for the lower. So P(bad) <= P(upper alone bad) + P(lower alone bad) <= alpha, unless
    one of the two calibration draws was unlucky, which together have at most 1 - confidence.

    Attributes
    ----------
    share
        Of alpha for the upper threshold, in (0, 1).
    after
        Thinking tokens from which on a trace may be given up; 0 allows every cue. A number stated
        beforehand: taken from the calibration traces it would void the proof.
    """

    share: float = 0.8
    after: int = 0

    name: ClassVar[str] = "hopeless"
    guarantee: ClassVar[Guarantee] = "risk"
    numbers: ClassVar[tuple[str, ...]] = ("upper", "lower")

    def __post_init__(self) -> None:
        check_option(self.name, "share", self.share, 0, 1, "strictly between 0 and 1")
        check_option(self.name, "after", self.after, -1, np.inf, "a number of tokens from 0 on")

    def _fit(self, table: CueTable, terms: Terms) -> FittedRule:
        share = Fraction(repr(float(self.share)))
        above, below = terms.part(share), terms.part(1 - share)
        upper, _ = trace_threshold(table, table.scores, above)
        turned, _ = trace_threshold(table, -table.scores, below, table.positions >= self.after)
        said = promise(terms.loss, terms.alpha, terms.method, terms.confidence, table.n_groups)
        said += (
            f" Of alpha, {above.alpha:g} is for stops at a high score and {below.alpha:g} for "
            f"giving up at a low one (from {self.after:g} tokens on)."
        )
        return FittedRule(self, {"upper": upper, "lower": -turned}, said)

    def stops(self, table: CueTable, found: Numbers) -> NDArray[np.int64]:
        """Find the first cue of each trace above the one or, if eligible, below the other."""
        high = table.scores > number(found, "upper")
        low = (table.scores < number(found, "lower")) & (table.positions >= self.after)
        return first_cues(high | low, table)
