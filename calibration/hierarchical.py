"""A threshold for queries that come in groups: the promise for a query of a new group.

Questions on one article are alike, so that the queries of a few articles are not exchangeable with
those of others, however many they are. What is exchangeable are the articles. With K of them, n_k
queries on article k and x_ki as in calibration/risk.py, the threshold is the lowest t with

    1 / (K + 1) * (1 + sum over k of (share of the x_ki above t)) <= alpha

which hurts at most alpha of the queries of new articles on average over the draw: hierarchical
conformal prediction. With one query an article it is conformal risk control to the letter. No
number of queries makes up for articles: alpha is at least 1 / (K + 1).

References: Dunn, Wasserman, Ramdas, "Distribution-Free Prediction Sets for Two-Layer Hierarchical
Models" (2022); Lee, Barber, Willett, "Distribution-free inference with hierarchical data" (2023).
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from calibration.risk import check_alpha
from probes.errors import InputError, TooFewTraces

METHOD, GROUPS = "hcp", "articles"
"""Names in artifacts: of the method, and of the tensor that says which group each score is of."""

_ROUNDING = 1e-9
"""Shares are sums of fractions: what differs by less is the same."""


def threshold(worst: npt.ArrayLike, groups: npt.ArrayLike, alpha: float) -> float:
    """Give the lowest threshold that keeps the promise.

    Parameters
    ----------
    worst
        float32 [n], the x_i, in any order.
    groups
        [n], which group each is of.
    alpha
        Tolerated share of hurt queries, in (0, 1).

    Returns
    -------
    float
        A float32 value, one of the x_i or -inf; +inf where there are too few groups.

    """
    check_alpha(alpha)
    scores = np.asarray(worst, dtype=np.float32)
    _, place, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    if scores.shape != place.shape or np.isnan(scores).any():
        raise InputError("every calibration score needs a group, and none may be NaN")
    allowed = float(Fraction(repr(float(alpha))) * (len(sizes) + 1) - 1)
    if allowed < 0:
        return math.inf
    order = np.argsort(-scores, kind="stable")
    above = np.cumsum(1 / sizes[place[order]])  # share sum if all up to here lie above
    # The first one that may not lie above is where the threshold is; equal scores go with it.
    first = int(np.searchsorted(above, allowed + _ROUNDING, side="right"))
    return -math.inf if first == len(scores) else float(scores[order[first]])


def least_groups(alpha: float) -> int:
    """Return the smallest number of groups for which a finite threshold can exist.

    Examples
    --------
    >>> [least_groups(alpha) for alpha in (0.1, 0.05, 0.01)]
    [9, 19, 99]

    """
    check_alpha(alpha)
    return math.ceil(1 / Fraction(repr(float(alpha)))) - 1


def require_groups(count: int, alpha: float) -> None:
    """Refuse a promise that so many groups cannot carry.

    Raises
    ------
    TooFewTraces
        Saying how many more are needed.

    """
    missing = least_groups(alpha) - count
    if missing > 0:
        raise TooFewTraces(
            f"calibration queries on {count} articles are too few for alpha {alpha:g} by {METHOD}: "
            f"it needs at least {count + missing} articles, so {missing} more. Give more data with "
            f"--data, or settle for alpha >= {math.ceil(1000 / (count + 1)) / 1000:g}"
        )
