"""``bonferroni``: per-cue conformal prediction made honest by dividing alpha among the cues."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from calibration.evaluate import first_cues
from calibration.losses import bad_cues
from calibration.risk import promise, require_units, threshold
from calibration.rules.base import FittedRule, Guarantee, Numbers, Rule, Terms
from calibration.rules.scored import by_unit, cue_numbers
from calibration.table import CueTable
from probes.errors import InputError


@dataclass(frozen=True)
class Bonferroni(Rule):
    """Look at the first K cues of a trace, each with a threshold of its own at alpha / K.

    For cue number k of trace i take its score if a stop there is bad, else -inf: traces are
    exchangeable, so the threshold at alpha / K bounds the share of traces with a bad cue number k
    above it. A trace stopped badly is stopped at one of the K: the shares add up to alpha (and
    1 - confidence is divided likewise). The baseline against which trace-level calibration has to
    show what it is worth.

    Attributes
    ----------
    cues
        K. A number stated beforehand, from what is known of the model or from traces that are
        neither calibrated nor tested on; read off the traces at hand it would void the proof. Later
        cues never stop.
    """

    cues: int = 10

    name: ClassVar[str] = "bonferroni"
    guarantee: ClassVar[Guarantee] = "risk"
    numbers: ClassVar[tuple[str, ...]] = ("thresholds",)

    def __post_init__(self) -> None:
        if isinstance(self.cues, bool) or not isinstance(self.cues, int) or self.cues < 1:
            raise InputError(
                f"rule 'bonferroni': cues is {self.cues!r}; it must be a whole number from 1 on."
            )

    def _fit(self, table: CueTable, terms: Terms) -> FittedRule:
        part = terms.part(Fraction(1, self.cues))
        require_units(table.n_groups, part.method, part.alpha, part.confidence)
        bad, number = bad_cues(table, terms.loss), cue_numbers(table)
        limits = []
        for cue in range(self.cues):
            scores = np.full(len(table), -np.inf, dtype=np.float32)
            chosen = bad & (number == cue)
            scores[table.rows[chosen]] = table.scores[chosen]
            units = by_unit(scores, table, terms.rollouts)
            limits.append(threshold(units, part.alpha, part.method, part.confidence))
        said = promise(terms.loss, terms.alpha, terms.method, terms.confidence, table.n_groups)
        said += f" Each of the first {self.cues} cues takes its share of alpha; later ones never "
        return FittedRule(self, {"thresholds": tuple(limits)}, said + "stop.")

    def stops(self, table: CueTable, found: Numbers) -> NDArray[np.int64]:
        """Find the first cue of each trace above the threshold of its number."""
        limits = np.array([*_limits(found), np.inf], dtype=np.float32)
        number = np.minimum(cue_numbers(table), self.cues)
        return first_cues(table.scores > limits[number], table)

    def check_numbers(self, found: Numbers) -> None:
        """Refuse another number of thresholds than of cues."""
        if len(_limits(found)) != self.cues:
            raise InputError(f"rule 'bonferroni': 'thresholds' must be {self.cues} numbers.")


def _limits(found: Numbers) -> tuple[float, ...]:
    limits = found["thresholds"]
    return limits if isinstance(limits, tuple) else (limits,)
