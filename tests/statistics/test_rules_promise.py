"""Every rule that promises a risk keeps it, over 200 calibrations at ten cues a trace.

Each cell fits the rule as users do on 200 disjoint sets and replays it on 20,000 other traces. For
LTT the share of fits whose risk exceeds alpha is at most eps + 3 binomial standard errors; for CRC
the mean risk is at most alpha + 3 standard errors. What must fail, fails.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from populations import Population, population

from calibration.evaluate import NEVER
from calibration.losses import bad_cues
from calibration.rules import RULES, FittedRule, Terms, make_rule
from calibration.rules.hopeless import Hopeless
from calibration.table import CueTable

ALPHA, EPSILON = 0.1, 0.1
CALIBRATIONS, JUDGES = 200, 20_000
PROMISED = [name for name, rule in RULES.items() if rule.guarantee == "risk"]
OPTIONS: Mapping[str, Mapping[str, Any]] = {"bonferroni": {"cues": 3}}


def drawn() -> Population:
    return population(10, looks=True)


def fits(name: str, terms: Terms, n: int = 500, **options: Any) -> list[FittedRule]:
    rule = make_rule(name, options or OPTIONS.get(name))
    return fit_each(rule, terms, n)


def fit_each(rule: Any, terms: Terms, n: int) -> list[FittedRule]:
    pool = drawn().pool
    assert len(pool) >= CALIBRATIONS * n
    sets = (range(first, first + n) for first in range(0, CALIBRATIONS * n, n))
    return [rule.fit(pool.take(rows), terms) for rows in sets]


def judges() -> CueTable:
    return drawn().test.take(range(JUDGES))


def risks(fitted: list[FittedRule], loss: str) -> np.ndarray:
    table = judges()
    bad = np.append(bad_cues(table, loss), False)
    stops = [one.stops(table) for one in fitted]
    assert any((stop != NEVER).any() for stop in stops)
    return np.array([(bad[stop] & (stop != NEVER)).mean() for stop in stops])


def assert_ltt_holds(found: np.ndarray, alpha: float = ALPHA) -> None:
    over = (found > alpha).mean()
    assert over <= EPSILON + 3 * math.sqrt(EPSILON * (1 - EPSILON) / len(found))


def assert_crc_holds(found: np.ndarray, alpha: float = ALPHA) -> None:
    noise = math.sqrt(found.var(ddof=1) / len(found) + alpha * (1 - alpha) / JUDGES)
    assert found.mean() <= alpha + 3 * noise


@pytest.mark.parametrize("loss", ["wrong", "harm"])
@pytest.mark.parametrize("name", PROMISED)
def test_ltt_holds_with_its_confidence(name: str, loss: str) -> None:
    assert_ltt_holds(risks(fits(name, Terms(loss, ALPHA)), loss))


@pytest.mark.parametrize("name", PROMISED)
def test_crc_holds_on_average(name: str) -> None:
    assert_crc_holds(risks(fits(name, Terms("wrong", ALPHA, "crc")), "wrong"))


@pytest.mark.parametrize("signal", ["repeats", "confidence"])
def test_a_second_look_holds_whatever_it_looks_at(signal: str) -> None:
    found = fits("second-look", Terms("wrong", ALPHA), delta=3.0, signal=signal)
    assert_ltt_holds(risks(found, "wrong"))


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_hopeless_holds_at_other_splits_and_late_starts(share: float) -> None:
    found = fits("hopeless", Terms("harm", ALPHA), share=share, after=300)
    assert_ltt_holds(risks(found, "harm"))


def test_two_thresholds_at_the_whole_of_alpha_each_break_it() -> None:
    """The negative control: without the split, a lower threshold is paid for by nobody."""

    class Unsplit(Hopeless):
        def _fit(self, table: CueTable, terms: Terms) -> FittedRule:
            whole = replace(terms, alpha=2 * terms.alpha, confidence=0.8)
            return super()._fit(table, whole)  # half of twice alpha, and of twice eps, for each

    with pytest.raises(AssertionError):
        assert_ltt_holds(risks(fit_each(Unsplit(share=0.5), Terms("harm", ALPHA), 500), "harm"))


def test_a_beta_mixture_breaks_alpha() -> None:
    pool = drawn().pool
    rule = make_rule("beta-mixture")
    few = [
        rule.fit(pool.take(range(i, i + 500)), Terms("wrong", ALPHA)) for i in range(0, 5000, 500)
    ]
    assert risks(few, "wrong").min() > 1.5 * ALPHA


@pytest.mark.parametrize("n", [150, 500])
def test_a_budget_keeps_the_mean_tokens(n: int) -> None:
    table, pool = judges(), drawn().pool
    longest = int(max(pool.tokens.max(), drawn().test.tokens.max()))
    budget = 500.0
    guarded = fits("budget", Terms("wrong", ALPHA), n, tokens=budget, longest=longest)

    def mean_tokens(stops: np.ndarray) -> float:
        return float(
            np.where(stops == NEVER, table.tokens, np.append(table.positions, 0)[stops]).mean()
        )

    spent = np.array([mean_tokens(one.stops(table)) for one in guarded])
    noise = math.sqrt(spent.var(ddof=1) / len(spent) + table.tokens.var() / JUDGES)
    assert budget * 0.9 < spent.mean() <= budget + 3 * noise
    # The plain mean has no allowance for the new trace, and its fits lie above the guarded ones.
    plain = [
        mean_tokens(
            make_rule("level").restore({"threshold": one.found["plain_threshold"]}).stops(table)
        )
        for one in guarded[:50]
    ]
    assert np.mean(plain) > spent[:50].mean()
    # The bound on the risk holds at every one of these thresholds with its confidence.
    bounds = np.array([one.found["risk_bound"] for one in guarded])
    broken = (risks(guarded, "wrong") > bounds).mean()
    assert broken <= EPSILON + 3 * math.sqrt(EPSILON * (1 - EPSILON) / len(guarded))
