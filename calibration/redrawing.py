"""Whether the promise of a sentence filter holds where it is calibrated again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibration.dropping import (
    ScoredQuery,
    drop_at,
    find_threshold,
    interval,
    require_queries,
    worst_scores,
)
from calibration.risk import minimum_units
from probes.errors import InputError


@dataclass(frozen=True)
class Repeats:
    """Calibrations on random parts, each judged on the rest.

    Attributes
    ----------
    unit
        What was drawn: "query" (the promise's own unit) or "article" (all queries of an article
        together: exchangeable for "hcp" alone, a stress for the others).
    method
        Of each calibration.
    count
        Repetitions.
    mean_risk
        Mean share of hurt queries.
    above
        Repetitions with a share above alpha, by chance or not.
    clearly_above
        Those whose 95 % interval lies above alpha.
    mean_share
        Mean share of tokens kept.

    """

    unit: str
    method: str
    count: int
    mean_risk: float
    above: int
    clearly_above: int
    mean_share: float

    def to_json(self) -> dict[str, Any]:
        """Return plain fields."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def repeat(
    queries: Sequence[ScoredQuery],
    alpha: float,
    method: str,
    confidence: float,
    count: int,
    unit: str = "query",
    seed: int = 0,
    share: float = 0.5,
) -> Repeats:
    """Calibrate on a random share of the queries (a half), judge on the rest, many times.

    Raises
    ------
    TooFewTraces
        If the share cannot carry the promise.

    """
    if count < 1:
        raise InputError(f"{count} repeats: give at least 1")
    worst = worst_scores(queries)
    groups = np.array([query.group for query in queries])
    names = [query.group if unit == "article" else str(at) for at, query in enumerate(queries)]
    _, place = np.unique(names, return_inverse=True)
    units = int(place.max()) + 1
    rng = np.random.default_rng(seed)
    risks, shares, clear = [], [], 0
    for _ in range(count):
        order = np.empty(units, np.int64)
        order[rng.permutation(units)] = np.arange(units)
        half = order[place] < int(units * share)
        require_queries(int(half.sum()), method, alpha, confidence, len(set(groups[half])))
        limit = find_threshold(worst[half], groups[half], alpha, method, confidence)
        judged = [query for query, used in zip(queries, half, strict=True) if not used]
        outcome = drop_at(judged, limit)
        risks.append(outcome.risk)
        shares.append(outcome.share)
        clear += interval(outcome.hurt, outcome.queries)[0] > alpha
    return Repeats(
        unit=unit,
        method=method,
        count=count,
        mean_risk=float(np.mean(risks)),
        above=int((np.array(risks) > alpha).sum()),
        clearly_above=int(clear),
        mean_share=float(np.mean(shares)),
    )


def least_queries(method: str, alpha: float, confidence: float) -> int:
    """Return how many queries :func:`repeat` needs."""
    return 2 * minimum_units(method, alpha, confidence)
