"""The promise of sentence filters over repeated draws of queries; and what must break it.

Each repetition calibrates on queries of its own and is judged on 20,000 others: their share of
queries that lose a needed sentence is the risk of that calibration. The bars are those of bars.py.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from bars import SIGMAS, most_exceeding

from calibration import hierarchical
from calibration.dropping import ScoredQuery, drop_at, worst_scores
from calibration.redrawing import repeat
from calibration.risk import minimum_units, threshold

REPETITIONS, TEST, CONFIDENCE = 200, 20_000, 0.9
MOST_NEEDED = 4


@lru_cache(maxsize=4)
def needed_scores(queries: int, seed: int) -> np.ndarray:
    """float32 [queries, MOST_NEEDED]: drop scores of needed sentences, -inf beyond a query's own.

    Queries are easy or hard as a whole, and need one to four sentences, as multi-hop ones do.
    """
    rng = np.random.default_rng(seed)
    count = rng.integers(1, MOST_NEEDED + 1, queries)
    level = rng.normal(-3.0, 1.5, queries)
    scores = level[:, None] + rng.normal(0.0, 1.5, (queries, MOST_NEEDED))
    return np.where(np.arange(MOST_NEEDED) < count[:, None], scores, -np.inf).astype(np.float32)


@lru_cache(maxsize=1)
def judged_on() -> np.ndarray:
    return np.sort(needed_scores(TEST, 1).max(axis=1))


def risk(limit: float) -> float:
    return 1 - float(np.searchsorted(judged_on(), np.float32(limit), side="right")) / TEST


def calibration_sets(n: int) -> list[np.ndarray]:
    """Disjoint sets of n queries: independent draws."""
    return np.split(needed_scores(REPETITIONS * n, 2), REPETITIONS)


@pytest.mark.parametrize("alpha", [0.05, 0.1])
@pytest.mark.parametrize("n", [0, 120, 400])
def test_ltt_holds_with_its_confidence(alpha: float, n: int) -> None:
    n = n or minimum_units("ltt", alpha, CONFIDENCE)
    limits = [threshold(s.max(axis=1), alpha, "ltt", CONFIDENCE) for s in calibration_sets(n)]
    above = sum(risk(limit) > alpha for limit in limits)
    assert above <= most_exceeding(REPETITIONS, 1 - CONFIDENCE)


@pytest.mark.parametrize("alpha", [0.05, 0.1])
@pytest.mark.parametrize("n", [0, 120, 400])
def test_crc_holds_on_average(alpha: float, n: int) -> None:
    n = n or minimum_units("crc", alpha)
    limits = [threshold(s.max(axis=1), alpha, "crc") for s in calibration_sets(n)]
    risks = np.array([risk(limit) for limit in limits])
    error = np.hypot(risks.std() / np.sqrt(REPETITIONS), np.sqrt(alpha * (1 - alpha) / TEST))
    assert risks.mean() <= alpha + SIGMAS * error


def test_counting_sentences_instead_of_queries_breaks_the_promise() -> None:
    """The negative control: a query with four needed sentences has four chances to lose one."""
    limits = []
    for scores in calibration_sets(120):
        sentences = scores[np.isfinite(scores)]
        limits.append(threshold(sentences, 0.1, "ltt", CONFIDENCE))
    risks = np.array([risk(limit) for limit in limits])
    assert (risks > 0.1).sum() > most_exceeding(REPETITIONS, 1 - CONFIDENCE)
    assert risks.mean() > 0.13


def query(row: np.ndarray, rng: np.random.Generator, group: str) -> ScoredQuery:
    """A query with its needed sentences among ten others."""
    own = row[np.isfinite(row)]
    drop = np.concatenate([own, rng.normal(3.0, 1.5, 10)]).astype(np.float32)
    needed = np.arange(len(drop)) < len(own)
    return ScoredQuery(drop, needed, np.full(len(drop), 20), group)


def test_repeated_halves_hold_what_they_are_calibrated_for() -> None:
    rng = np.random.default_rng(5)
    queries = [query(row, rng, f"{at % 40}") for at, row in enumerate(needed_scores(500, 3))]
    for method in ("ltt", "crc"):
        drawn = repeat(queries, 0.1, method, CONFIDENCE, 100)
        # A half of 250 is judged on another of 250: both draws make noise around alpha.
        slack = SIGMAS * np.sqrt(2 * 0.1 * 0.9 / 250 / 100)
        assert drawn.mean_risk <= 0.1 + slack
        assert drawn.clearly_above <= most_exceeding(100, 0.1)


def test_the_loss_of_a_threshold_is_that_of_the_worst_needed_sentence() -> None:
    rng = np.random.default_rng(6)
    queries = [query(row, rng, "one") for row in needed_scores(300, 4)]
    worst = worst_scores(queries)
    for limit in (*worst[:5].tolist(), -np.inf, np.inf):
        hurt = sum(bool((q.drop[q.needed] > np.float32(limit)).any()) for q in queries)
        assert drop_at(queries, limit).hurt == hurt == int((worst > np.float32(limit)).sum())


GROUPS, QUERIES = 25, 40


@lru_cache(maxsize=2)
def grouped(groups: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """x_i of queries on articles that differ in difficulty and in size: scores, article of each."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, QUERIES, groups)
    home = np.repeat(np.arange(groups), sizes)
    level = rng.normal(-3.0, 1.5, groups)
    return (level[home] + rng.normal(0.0, 1.0, len(home))).astype(np.float32), home


def article_risk(limit: float) -> float:
    """Share of hurt queries on a new article, every article counting the same."""
    scores, home = grouped(4000, 8)
    hurt = np.bincount(home, weights=scores > np.float32(limit))
    return float((hurt / np.bincount(home)).mean())


def article_sets() -> list[tuple[np.ndarray, np.ndarray]]:
    scores, home = grouped(GROUPS * REPETITIONS, 7)
    return [(scores[home // GROUPS == at], home[home // GROUPS == at]) for at in range(REPETITIONS)]


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
def test_hcp_holds_for_new_articles_on_average(alpha: float) -> None:
    limits = [hierarchical.threshold(*drawn, alpha) for drawn in article_sets()]
    assert np.isfinite(limits).all()
    risks = np.array([article_risk(limit) for limit in limits])
    assert risks.mean() <= alpha + SIGMAS * risks.std() / np.sqrt(REPETITIONS)


def test_taking_the_queries_of_few_articles_for_independent_breaks_the_promise() -> None:
    """The negative control: with confidence 0.9, so it says, and it fails far more often."""
    limits = [threshold(scores, 0.1, "ltt", CONFIDENCE) for scores, _ in article_sets()]
    risks = np.array([article_risk(limit) for limit in limits])
    assert (risks > 0.1).sum() > 2 * most_exceeding(REPETITIONS, 1 - CONFIDENCE)
