"""What every stopping rule has in common: the terms it is fitted on and what a fit gives.

A :class:`Rule` is a small dataclass of options. Fitted on calibration traces it gives a
:class:`FittedRule`: where it stops, what that costs beyond thinking, its parameters as JSON, and
the sentence of what it promises. Three kinds of promise (``guarantee``):

* ``risk``: at most alpha of new requests are stopped badly.
* ``tokens``: the expected thinking tokens stay within a budget; the risk is what it is.
* ``none``: nothing per request.

Most rules are a score per cue and a threshold on it: see :mod:`calibration.rules.scored`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from calibration.losses import get_loss
from calibration.risk import DEFAULT_CONFIDENCE, allowed_above
from calibration.table import CueTable
from calibration.worst import ROLLOUTS
from probes.errors import InputError

Guarantee = Literal["risk", "tokens", "none"]

Numbers = Mapping[str, float | tuple[float, ...]]
"""What a fit found, by name; float32 values as floats, infinities allowed."""

_INFINITIES = {"Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True, slots=True)
class Terms:
    """What is asked of a rule.

    Attributes
    ----------
    loss
        A name of :data:`calibration.losses.LOSSES`.
    alpha
        Share of requests that may be stopped badly.
    method, confidence
        See :mod:`calibration.risk`.
    rollouts
        How several traces of a group count, see :func:`calibration.worst.worst_bad_scores`.
    """

    loss: str
    alpha: float
    method: str = "ltt"
    confidence: float = DEFAULT_CONFIDENCE
    rollouts: str = "one"

    def __post_init__(self) -> None:
        get_loss(self.loss)
        allowed_above(1, self.alpha, self.method, self.confidence)  # refuses what is out of range
        if self.rollouts not in ROLLOUTS:
            choices = ", ".join(ROLLOUTS)
            raise InputError(f"rollouts {self.rollouts!r} is unknown; choose one of {choices}.")

    def part(self, share: Fraction) -> Terms:
        """Give the terms of a part of the rule: that share of alpha and of 1 - confidence.

        Shares that add up to 1 keep the whole by the union bound: over the parts' bad stops for
        alpha, over their bad calibration draws for 1 - confidence.
        """
        alpha = Fraction(repr(float(self.alpha))) * share
        epsilon = (1 - Fraction(repr(float(self.confidence)))) * share
        return replace(self, alpha=float(alpha), confidence=float(1 - epsilon))


@dataclass(frozen=True, eq=False)
class FittedRule:
    """A rule with the numbers it was fitted to.

    Attributes
    ----------
    rule
        With its options.
    found
        What the fit found.
    promise
        What it promises, in words.
    notes
        Remarks a person should read.
    worst_scores
        float32[n_units], ascending: the x_i under the rule's own score (or what stands in for
        them), from which any alpha can be answered; None where a rule has no such score.
    """

    rule: Rule
    found: Numbers
    promise: str = ""
    notes: tuple[str, ...] = ()
    worst_scores: NDArray[np.float32] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The rule's."""
        return self.rule.name

    @property
    def guarantee(self) -> Guarantee:
        """The rule's kind of promise."""
        return self.rule.guarantee

    @property
    def threshold(self) -> float | None:
        """Of the rule's score, where it has one threshold."""
        limit = self.found.get("threshold")
        return limit if isinstance(limit, float) else None

    @property
    def parameters(self) -> dict[str, Any]:
        """Options and numbers as plain JSON, with infinities spelled; `restore` reads them."""
        options = {name: getattr(self.rule, name) for name in option_names(type(self.rule))}
        return options | {name: _spell(value) for name, value in self.found.items()}

    def stops(self, table: CueTable) -> NDArray[np.int64]:
        """Find where the rule stops: int64[n_traces], a cue's index or -1, as `first_cues`."""
        return self.rule.stops(table, self.found)

    def extra_tokens(self, table: CueTable, stops: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count tokens generated beside the thinking, int64[n_traces], given its `stops`."""
        return self.rule.extra_tokens(table, stops, self.found)


class Rule(ABC):
    """A stopping rule that is not fitted yet; subclasses are frozen dataclasses of its options.

    Class attributes: ``name`` in the registry, ``guarantee``, ``numbers`` (what a fit finds), and
    ``any_alpha``: whether the x_i of a fit answer every other alpha by their threshold.
    """

    name: ClassVar[str]
    guarantee: ClassVar[Guarantee]
    numbers: ClassVar[tuple[str, ...]] = ("threshold",)
    any_alpha: ClassVar[bool] = False

    def fit(self, table: CueTable, terms: Terms) -> FittedRule:
        """Fit on calibration traces.

        Parameters
        ----------
        table
            Exchangeable with the requests to come; nothing may have been fitted to their groups.
        terms
            What is asked.

        Raises
        ------
        TooFewTraces
            When the promise needs more groups than there are; says how many more.
        InputError
            When no trace has a cue, or something that the rule or the loss needs is unknown.
        """
        if table.n_cues == 0:
            raise InputError(
                f"rule '{self.name}': none of the {len(table)} calibration traces has a cue, so "
                "that nothing could ever be stopped; check the cue words (or the interval)."
            )
        return self._fit(table, terms)

    @abstractmethod
    def _fit(self, table: CueTable, terms: Terms) -> FittedRule:
        """Fit, given at least one cue."""

    @abstractmethod
    def stops(self, table: CueTable, found: Numbers) -> NDArray[np.int64]:
        """See :meth:`FittedRule.stops`."""

    def extra_tokens(
        self, table: CueTable, stops: NDArray[np.int64], found: Numbers
    ) -> NDArray[np.int64]:
        """See :meth:`FittedRule.extra_tokens`; most rules need nothing but the hidden state."""
        return np.zeros(len(table), dtype=np.int64)

    def restore(self, parameters: Mapping[str, Any], said: str = "") -> FittedRule:
        """Make a fitted rule of its numbers; see :func:`calibration.rules.restore`."""
        missing = sorted(set(self.numbers) - parameters.keys())
        if missing:
            raise InputError(f"rule '{self.name}': the parameter {missing[0]!r} is missing.")
        found = {name: _number(self.name, name, parameters[name]) for name in self.numbers}
        self.check_numbers(found)
        return FittedRule(self, found, said)

    def check_numbers(self, found: Numbers) -> None:
        """Refuse numbers that belong to other options; by default a single one each."""
        for name, value in found.items():
            if isinstance(value, tuple):
                raise InputError(f"rule '{self.name}': the parameter {name!r} must be one number.")


def number(found: Numbers, name: str) -> np.float32:
    """Give one of the numbers that a fit found, as it is compared."""
    value = found[name]
    assert isinstance(value, float)  # by `check_numbers`
    return np.float32(value)


def option_names(rule: type[Rule]) -> list[str]:
    """List a rule's options."""
    return [item.name for item in fields(rule)]  # type: ignore[arg-type]


def check_option(rule: str, name: str, value: object, low: float, high: float, wanted: str) -> None:
    """Refuse an option that is no number in the open interval (low, high).

    Raises
    ------
    InputError
        Naming rule and option.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low < float(value) < high:  # type: ignore[arg-type]
        raise InputError(f"rule '{rule}': {name} is {value!r}; it must be {wanted}.")


def _spell(value: float | tuple[float, ...]) -> Any:
    if isinstance(value, tuple):
        return [_spell(item) for item in value]
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _number(rule: str, name: str, value: Any) -> float | tuple[float, ...]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = [_number(rule, name, item) for item in value]
        return tuple(item for item in items if isinstance(item, float))
    if isinstance(value, str) and value in _INFINITIES:
        return _INFINITIES[value]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise InputError(f"rule '{rule}': the parameter {name!r} is {value!r}, not a number.")
    return float(value)
