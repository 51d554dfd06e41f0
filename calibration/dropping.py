"""The promise of a sentence filter: at most alpha of the queries lose a sentence they need.

A sentence is dropped iff float32(-logit) > float32(threshold), so that a larger threshold drops
less. The unit is one query. Its x_i is the largest drop score (-logit) among the sentences it
needs: some needed sentence is dropped iff x_i > threshold. That is the loss of calibration/risk.py
to the letter, and its exact forms hold here without a change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from calibration import hierarchical
from calibration.risk import check_alpha, threshold, units_missing
from probes.errors import InputError, TooFewTraces

LOSS: Literal["dropped"] = "dropped"
"""The name of the loss in artifacts: some needed sentence was dropped."""


@dataclass(frozen=True, eq=False)
class ScoredQuery:
    """The sentences of one query's documents, all together.

    Attributes
    ----------
    drop
        float32 [n_sentences], -logit.
    needed
        bool [n_sentences], at least one true.
    tokens
        int64 [n_sentences].
    group
        Article, or knot of articles, of what it needs.

    """

    drop: npt.NDArray[np.float32]
    needed: npt.NDArray[np.bool_]
    tokens: npt.NDArray[np.int64]
    group: str


@dataclass(frozen=True)
class Dropped:
    """What a threshold does.

    Attributes
    ----------
    threshold
        See above.
    queries, hurt
        Queries, and those of them that lose a needed sentence.
    needed, kept
        Needed sentences, and those of them that are kept.
    tokens_in, tokens_out
        Of all sentences, and of those that are kept.
    sentences_in, sentences_out
        Likewise.

    """

    threshold: float
    queries: int
    hurt: int
    needed: int
    kept: int
    tokens_in: int
    tokens_out: int
    sentences_in: int
    sentences_out: int

    @property
    def recall(self) -> float:
        """Share of the needed sentences that are kept."""
        return self.kept / self.needed

    @property
    def risk(self) -> float:
        """Share of the queries that lose one."""
        return self.hurt / self.queries

    @property
    def share(self) -> float:
        """Share of the tokens that are kept."""
        return self.tokens_out / self.tokens_in


def worst_scores(queries: Sequence[ScoredQuery]) -> npt.NDArray[np.float32]:
    """Return float32 [n_queries], the x_i in the queries' order."""
    return np.array([query.drop[query.needed].max() for query in queries], dtype=np.float32)


def drop_at(queries: Sequence[ScoredQuery], limit: float) -> Dropped:
    """Apply a threshold.

    Raises
    ------
    InputError
        If there is no query.

    """
    if not queries:
        raise InputError("no query to evaluate on")
    drop = np.concatenate([query.drop for query in queries])
    needed = np.concatenate([query.needed for query in queries])
    tokens = np.concatenate([query.tokens for query in queries])
    stays = ~(drop > np.float32(limit))
    return Dropped(
        threshold=float(limit),
        queries=len(queries),
        hurt=int((worst_scores(queries) > np.float32(limit)).sum()),
        needed=int(needed.sum()),
        kept=int((needed & stays).sum()),
        tokens_in=int(tokens.sum()),
        tokens_out=int(tokens[stays].sum()),
        sentences_in=len(drop),
        sentences_out=int(stays.sum()),
    )


def drop_at_recall(queries: Sequence[ScoredQuery], recall: float) -> Dropped:
    """Apply the lowest threshold that keeps a share of the needed sentences of these queries.

    It is taken with the answers known: a point on the curve, no promise.
    """
    scores = np.sort(np.concatenate([query.drop[query.needed] for query in queries]))
    rank = min(len(scores), math.ceil(recall * len(scores) - 1e-9))
    return drop_at(queries, float(scores[max(rank, 1) - 1]))


def auroc(queries: Sequence[ScoredQuery]) -> float | None:
    """Measure how well the scores tell needed sentences from others, all queries pooled.

    Returns
    -------
    float or None
        The chance that a needed sentence has the lower drop score; ties count half. None if every
        sentence is needed.

    """
    drop = np.concatenate([query.drop for query in queries])
    needed = np.concatenate([query.needed for query in queries])
    good, bad = np.sort(drop[needed]), drop[~needed]
    if not len(good) or not len(bad):
        return None
    below = np.searchsorted(good, bad, side="left")
    equal = np.searchsorted(good, bad, side="right") - below
    return float((below + equal / 2).sum() / (len(good) * len(bad)))


def interval(hurt: int, queries: int, level: float = 0.95) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of a share."""
    tail = (1 - level) / 2
    low = 0.0 if hurt == 0 else float(beta.ppf(tail, hurt, queries - hurt + 1))
    high = 1.0 if hurt == queries else float(beta.ppf(1 - tail, hurt + 1, queries - hurt))
    return low, high


def require_queries(
    n: int, method: str, alpha: float, confidence: float, articles: int = 0
) -> None:
    """Refuse a promise that n queries on some articles cannot carry.

    Raises
    ------
    TooFewTraces
        Saying how many more are needed.

    """
    if method == hierarchical.METHOD:
        hierarchical.require_groups(articles, alpha)
        return
    missing = units_missing(n, method, alpha, confidence)
    if missing:
        raise TooFewTraces(
            f"{n} calibration queries are too few for alpha {alpha:g} by {method}: it needs at "
            f"least {n + missing}, so {missing} more. Give more data with --data, or a larger alpha"
        )


def dropping_promise(alpha: float, method: str, confidence: float, n: int) -> str:
    """Word what a sentence filter promises, and what it does not."""
    check_alpha(alpha)
    if method == hierarchical.METHOD:
        who = f"new queries on new articles exchangeable with these {n} articles,"
        kept = "on average over the draw of the calibration articles"
    else:
        who = f"new queries exchangeable with these {n}"
        kept = (
            f"with confidence {confidence:g} over the draw of the calibration queries"
            if method == "ltt"
            else "on average over the draw of the calibration queries"
        )
    return (
        f"Over {who} whose documents hold what they need, at most {alpha:g} lose a sentence they "
        f"need (loss '{LOSS}'), {kept}. Not for one given query; not under another encoder, "
        "splitter, retriever, number or kind of documents."
    )


def find_threshold(
    worst: npt.NDArray[np.float32],
    groups: npt.ArrayLike | None,
    alpha: float,
    method: str,
    confidence: float,
) -> float:
    """Give the lowest threshold that keeps the promise by any of the methods.

    Parameters
    ----------
    worst
        float32 [n], the x_i.
    groups
        [n], the article of each; only "hcp" needs them.
    alpha, method, confidence
        As asked for.

    """
    if method != hierarchical.METHOD:
        return threshold(worst, alpha, method, confidence)
    if groups is None:
        raise InputError(f"method {method} needs the article of every score")
    return hierarchical.threshold(worst, groups, alpha)
