"""Rules side by side: each fitted on the calibration traces, each replayed on the test traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from calibration.evaluate import Outcome, never_stops, oracle_stops, replay
from calibration.losses import bad_cues
from calibration.rules.base import FittedRule, Guarantee, Rule, Terms
from calibration.table import CueTable
from probes.errors import InputError, StopperError


@dataclass(frozen=True, eq=False)
class Contestant:
    """One probe's scores on both sets of traces.

    Attributes
    ----------
    name
        What to call it, for instance the artifact's folder.
    calibration, test
        The same traces for every contestant; the two share no group.
    """

    name: str
    calibration: CueTable
    test: CueTable


@dataclass(frozen=True, eq=False)
class Row:
    """What one rule on one contestant's scores does on the test traces.

    Attributes
    ----------
    artifact
        The contestant's name.
    fitted
        With the rule's name, guarantee and promise.
    outcome
        On the test traces.
    oracle_share
        Tokens saved, those generated beside the thinking deducted, as a share of what the oracle
        saves; None where that saves nothing.
    """

    artifact: str
    fitted: FittedRule
    outcome: Outcome
    oracle_share: float | None

    @property
    def guarantee(self) -> Guarantee:
        """The rule's kind of promise."""
        return self.fitted.guarantee

    def to_json(self) -> dict[str, Any]:
        """Give the shape that tables and plots of rules share; offline there is no wall-clock."""
        outcome = self.outcome
        return {
            "rule": outcome.rule,
            "artifact": self.artifact,
            "guarantee": self.guarantee,
            "accuracy": outcome.accuracy,
            "tokens": outcome.tokens,
            "extra_tokens": outcome.extra_tokens,
            "bad_stops": int(outcome.bad_stops),
            "bad_stop_share": outcome.bad_stop_share,
            "bad_stop_interval": list(outcome.bad_stop_interval or ()),
            "stopped_share": outcome.stopped_share,
            "oracle_share": self.oracle_share,
            "wall_s": None,
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """All rules under the same terms on the same traces.

    Attributes
    ----------
    terms
        What was asked of each.
    n_test
        Test traces.
    full, oracle
        The full traces; the first good cue of each.
    rows
        By contestant, then in the order of the rules.
    left_out
        (rule, contestant, reason) of those that could not be fitted.
    """

    terms: Terms
    n_test: int
    full: Outcome
    oracle: Outcome
    rows: Sequence[Row]
    left_out: Sequence[tuple[str, str, str]]

    @property
    def best_guaranteed(self) -> Row | None:
        """The row with a guarantee of risk that saves most; None without one.

        Picked after a look at the test traces: a choice, to be made on other traces if its figures
        are to be quoted as a test's.
        """
        promised = [row for row in self.rows if row.guarantee == "risk"]
        cost = [row.outcome.tokens + row.outcome.extra_tokens for row in promised]
        return promised[cost.index(min(cost))] if promised else None

    def label(self, row: Row) -> str:
        """Name a row: by its rule, and by its contestant where there are several."""
        several = len({other.artifact for other in self.rows}) > 1
        return f"{row.outcome.rule} ({row.artifact})" if several else row.outcome.rule

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON: tokens are means per trace, unknown accuracies are null."""
        best = self.best_guaranteed
        return {
            "alpha": self.terms.alpha,
            "loss": self.terms.loss,
            "method": self.terms.method,
            "confidence": self.terms.confidence if self.terms.method == "ltt" else None,
            "n_test": self.n_test,
            "rows": [row.to_json() for row in self.rows],
            "full": {"accuracy": self.full.accuracy, "tokens": self.full.tokens},
            "oracle": {"accuracy": self.oracle.accuracy, "tokens": self.oracle.tokens},
            "best_guaranteed": None if best is None else self.label(best),
            "left_out": [
                dict(zip(("rule", "artifact", "reason"), item, strict=True))
                for item in self.left_out
            ],
        }


def compare(
    contestants: Sequence[Contestant],
    rules: Sequence[Rule],
    terms: Terms,
    skipped: Mapping[str, str] | None = None,
    insist: bool = True,
) -> Comparison:
    """Fit and replay every rule on every contestant's scores.

    Parameters
    ----------
    contestants
        At least one.
    rules
        At least one.
    terms
        The same for all.
    skipped
        Rules left out beforehand, with the reason.
    insist
        Raise where a rule cannot be fitted; False leaves it out and says why.

    Raises
    ------
    InputError
        When the contestants' test traces differ, calibration and test traces share a group, or
        there is no trace or no cue to test on; with `insist`, whatever a rule refuses.
    """
    first = contestants[0].test
    for contestant in contestants:
        _check(contestant, first)
    bad = bad_cues(first, terms.loss)
    full = replay("full trace", first, bad, never_stops(first))
    oracle = replay("oracle", first, bad, oracle_stops(first, bad))
    rows: list[Row] = []
    left_out = [
        (rule, contestant.name, why)
        for contestant in contestants
        for rule, why in (skipped or {}).items()
    ]
    pairs = [(contestant, rule) for contestant in contestants for rule in rules]
    for contestant, rule in tqdm(pairs, desc="fitting rules", unit="rule", delay=2, leave=False):
        table = contestant.test
        try:
            fitted = rule.fit(contestant.calibration, terms)
            stops = fitted.stops(table)
            extra = fitted.extra_tokens(table, stops)
        except StopperError as problem:
            if insist:
                raise
            left_out.append((rule.name, contestant.name, str(problem)))
            continue
        outcome = replay(rule.name, table, bad, stops, fitted.threshold, extra)
        rows.append(Row(contestant.name, fitted, outcome, _share(outcome, full, oracle)))
    return Comparison(terms, len(first), full, oracle, rows, left_out)


def _share(outcome: Outcome, full: Outcome, oracle: Outcome) -> float | None:
    most = full.tokens - oracle.tokens
    return (full.tokens - outcome.tokens - outcome.extra_tokens) / most if most > 0 else None


def _check(contestant: Contestant, first: CueTable) -> None:
    test = contestant.test
    if test.n_cues == 0:
        raise InputError(
            f"{contestant.name}: none of the {len(test)} test traces has a cue, so that every rule "
            "is the full trace; check the cue words against what the model writes."
        )
    if list(test.trace_ids) != list(first.trace_ids) or test.n_cues != first.n_cues:
        raise InputError(
            f"{contestant.name}: its test traces are not those of the others; compare artifacts on "
            "the same store."
        )
    shared = set(contestant.calibration.groups) & set(test.groups)
    if shared:
        raise InputError(
            f"{contestant.name}: {len(shared)} groups are among both the calibration and the test "
            f"traces (for instance {min(shared)!r}); test on prompts that no rule was fitted to."
        )
