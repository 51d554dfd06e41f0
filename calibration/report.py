"""An evaluation: an artifact's rule and its rivals, replayed on the same held-out traces."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.conformal import MapiePerCue, lynx_threshold
from calibration.evaluate import (
    INTERVAL_LEVEL,
    Outcome,
    auroc,
    equal_budget,
    first_cues,
    never_stops,
    oracle_stops,
    replay,
    threshold_stops,
)
from calibration.losses import bad_cues
from calibration.risk import check_alpha, minimum_units, require_units, threshold
from calibration.rules import DEFAULT_RULE, FittedRule, Guarantee, restore, rule_class
from calibration.table import CueTable, as_table
from probes.errors import InputError
from probes.events import Trace

#: Alphas of a plot, where the artifact has enough calibration traces for them.
PLOT_ALPHAS = (0.01, 0.02, 0.03, 0.05, 0.08, 0.10, 0.15, 0.20, 0.30)


@dataclass(frozen=True, eq=False)
class Rule:
    """What an artifact knows about stopping, whatever alpha is asked for.

    Attributes
    ----------
    method, loss, confidence
        As calibrated.
    worst_scores
        float32[n_units], the x_i; None for method ``lynx``.
    good_scores, bad_scores
        float32[n], all calibration cues by class; None where an artifact does not keep them, and
        then the per-cue baselines cannot be computed.
    rule, parameters, alpha
        Name in :mod:`calibration.rules`, what it was fitted to, and the alpha of that; the plain
        threshold by default, which needs neither.
    """

    method: str
    loss: str
    confidence: float | None
    worst_scores: NDArray[np.float32] | None
    good_scores: NDArray[np.float32] | None = None
    bad_scores: NDArray[np.float32] | None = None
    rule: str = DEFAULT_RULE
    parameters: Mapping[str, Any] = field(default_factory=dict)
    alpha: float | None = None

    @property
    def guarantee(self) -> Guarantee:
        """What kind of promise the rule makes."""
        return "none" if self.method == "lynx" else rule_class(self.rule).guarantee

    def fitted(self, alpha: float) -> FittedRule:
        """Give the rule as fitted for `alpha`; raises as :meth:`threshold`."""
        if self.method == "lynx":
            return restore(DEFAULT_RULE, {"threshold": self.threshold(alpha)})
        if rule_class(self.rule).any_alpha:
            limit = self.threshold(alpha)
            return restore(self.rule, {**self.parameters, "threshold": limit})
        check_alpha(alpha)
        if alpha != self.alpha:
            raise InputError(
                f"rule '{self.rule}' was fitted at alpha {self.alpha} and answers no other; give "
                f"--alpha {self.alpha}, or fit it with `stopper calibrate --rule {self.rule} "
                f"--alpha {alpha:g}`."
            )
        return restore(self.rule, self.parameters)

    def threshold(self, alpha: float) -> float:
        """Give the threshold of the rule's score for `alpha`; +inf where it has no single one.

        Raises
        ------
        TooFewTraces
            When the calibration traces cannot carry it; says how many more are needed.
        """
        check_alpha(alpha)
        if self.method == "lynx":
            limit = self.lynx(alpha)
            if limit is None:
                raise InputError("the artifact keeps no cue scores; calibrate it again.")
            return limit
        if not rule_class(self.rule).any_alpha:
            limit = self.fitted(alpha).threshold
            return math.inf if limit is None else limit
        if self.worst_scores is None:
            raise InputError("the artifact keeps no calibration scores; calibrate it again.")
        confidence = self.confidence or 0.9
        require_units(len(self.worst_scores), self.method, alpha, confidence)
        return threshold(self.worst_scores, alpha, self.method, confidence)

    def lynx(self, delta: float) -> float | None:
        """Give LYNX's per-cue threshold for `delta`, where it can be computed."""
        if self.good_scores is None or self.bad_scores is None:
            return None
        return lynx_threshold(self.good_scores, self.bad_scores, delta)

    def carries(self, alpha: float) -> bool:
        """Tell whether there are enough calibration traces for `alpha`."""
        if self.method == "lynx" or self.worst_scores is None:
            return True
        if not rule_class(self.rule).any_alpha:
            return alpha == self.alpha
        return len(self.worst_scores) >= minimum_units(self.method, alpha, self.confidence or 0.9)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All rules at one alpha on one data set.

    Attributes
    ----------
    alpha, confidence, method, loss
        Of the promise.
    n_test, n_groups, n_cues
        Traces, distinct groups and cues evaluated on.
    score_auroc
        Of the scores against "the stop is good", cues pooled; None with one class only.
    full, stopped, oracle, budget
        The full traces; the artifact's rule; the first good cue; a fixed token budget with the same
        mean tokens as `stopped`.
    lynx, mapie
        The per-cue baselines at delta = alpha; None where they cannot be computed.
    rule, guarantee
        Of the artifact.
    promised_tokens
        Mean thinking tokens that the rule stays within, where its guarantee is "tokens".
    """

    alpha: float
    confidence: float | None
    method: str
    loss: str
    n_test: int
    n_groups: int
    n_cues: int
    score_auroc: float | None
    full: Outcome
    stopped: Outcome
    oracle: Outcome
    budget: Outcome
    lynx: Outcome | None
    mapie: Outcome | None
    rule: str = DEFAULT_RULE
    guarantee: Guarantee = "risk"
    promised_tokens: float | None = None

    @property
    def saved_share(self) -> float:
        """Share of all thinking tokens that the rule saves; what it generates beside counts."""
        spent = self.stopped.tokens + self.stopped.extra_tokens
        return 1 - spent / self.full.tokens if self.full.tokens else 0.0

    @property
    def rows(self) -> list[Outcome]:
        """The outcomes there are, in the order of the table."""
        every = (self.full, self.stopped, self.budget, self.lynx, self.mapie, self.oracle)
        return [outcome for outcome in every if outcome is not None]

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON: tokens are means per trace, unknown accuracies are null."""
        return {
            "alpha": self.alpha,
            "confidence": self.confidence,
            "method": self.method,
            "loss": self.loss,
            "rule": self.rule,
            "guarantee": self.guarantee,
            "n_test": self.n_test,
            "n_groups": self.n_groups,
            "n_cues": self.n_cues,
            "score_auroc": self.score_auroc,
            "threshold": _finite(self.stopped.threshold),
            "full": _pair(self.full),
            "stopped": _pair(self.stopped),
            "extra_tokens": self.stopped.extra_tokens,
            "tokens_saved_share": self.saved_share,
            "stopped_share": self.stopped.stopped_share,
            "bad_stops": int(self.stopped.bad_stops),
            "bad_stop_share": self.stopped.bad_stop_share,
            "bad_stop_interval": list(self.stopped.bad_stop_interval or ()),
            "bad_stop_interval_level": INTERVAL_LEVEL,
            "oracle_tokens": self.oracle.tokens,
            "oracle_accuracy": self.oracle.accuracy,
            "budget": {**_pair(self.budget), "bad_stop_share": self.budget.bad_stop_share},
            "lynx": _baseline(self.lynx),
            "mapie": _baseline(self.mapie),
        }


class Evaluator:
    """Replays a rule on one data set at any number of alphas.

    Parameters
    ----------
    traces
        Held-out traces with the labels that the rule's loss needs.
    rule
        The artifact's.
    source
        What to call the traces in errors.

    Raises
    ------
    InputError
        When there is no trace or no cue, or a label is missing.
    """

    def __init__(
        self, traces: CueTable | Iterable[Trace], rule: Rule, source: str = "the test traces"
    ) -> None:
        self.table = as_table(traces)
        self.rule = rule
        if len(self.table) == 0:
            raise InputError(f"{source}: there is no trace to evaluate.")
        if self.table.n_cues == 0:
            raise InputError(
                f"{source}: none of the {len(self.table)} traces has a cue, so that every rule is "
                "the full trace; check the cue words against what the model writes."
            )
        self.bad = bad_cues(self.table, rule.loss)
        self.full = replay("full trace", self.table, self.bad, never_stops(self.table))
        oracle = oracle_stops(self.table, self.bad)
        self.oracle = replay("oracle", self.table, self.bad, oracle)
        area = auroc(self.table.scores, ~self.bad)
        self._auroc = None if math.isnan(area) else area

    def at(self, alpha: float) -> Evaluation:
        """Evaluate at one alpha.

        Raises
        ------
        TooFewTraces
            When the rule's calibration cannot carry it.
        """
        rule, fitted = self.rule, self.rule.fitted(alpha)
        stops = fitted.stops(self.table)
        extra = fitted.extra_tokens(self.table, stops)
        stopped = replay(_name(rule), self.table, self.bad, stops, fitted.threshold, extra)
        spent = stopped.tokens + stopped.extra_tokens
        return Evaluation(
            alpha=alpha,
            confidence=rule.confidence,
            method=rule.method,
            loss=rule.loss,
            n_test=len(self.table),
            n_groups=self.table.n_groups,
            n_cues=self.table.n_cues,
            score_auroc=self._auroc,
            full=self.full,
            stopped=stopped,
            oracle=self.oracle,
            budget=equal_budget("token budget", self.table, self.bad, spent),
            lynx=self._lynx(alpha),
            mapie=self._mapie(alpha),
            rule=rule.rule,
            guarantee=rule.guarantee,
            promised_tokens=rule.parameters["tokens"] if rule.guarantee == "tokens" else None,
        )

    def _above(self, name: str, limit: float) -> Outcome:
        return replay(name, self.table, self.bad, threshold_stops(self.table, limit), limit)

    def _lynx(self, delta: float) -> Outcome | None:
        limit = None if self.rule.method == "lynx" else self.rule.lynx(delta)
        return None if limit is None else self._above("LYNX per cue", limit)

    def _mapie(self, delta: float) -> Outcome | None:
        good, bad = self.rule.good_scores, self.rule.bad_scores
        # MAPIE is an optional extra; without it this row is left out, the others stand.
        if good is None or bad is None or importlib.util.find_spec("mapie") is None:
            return None
        try:
            passing = MapiePerCue(good, bad, delta).passes(self.table.scores)
        except InputError:  # too few cues for this delta
            return None
        return replay("MAPIE per cue", self.table, self.bad, first_cues(passing, self.table))


def _name(rule: Rule) -> str:
    if rule.method == "lynx":
        return "LYNX per cue"
    return f"stopper ({rule.method if rule.rule == DEFAULT_RULE else rule.rule})"


def _pair(outcome: Outcome) -> dict[str, float | None]:
    return {"accuracy": outcome.accuracy, "tokens": outcome.tokens}


def _baseline(outcome: Outcome | None) -> dict[str, Any] | None:
    if outcome is None:
        return None
    return {
        **_pair(outcome),
        "bad_stops": int(outcome.bad_stops),
        "bad_stop_share": outcome.bad_stop_share,
        "bad_stop_interval": list(outcome.bad_stop_interval or ()),
    }


def _finite(value: float | None) -> float | str | None:
    """Spell infinities, for which JSON has no literal."""
    if value is None or math.isfinite(value):
        return value
    return "Infinity" if value > 0 else "-Infinity"
