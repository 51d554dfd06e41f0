"""Per-cue conformal rules, the baselines: LYNX's own, and MAPIE's classifier as it comes.

Both bound the error of *one* exchangeable cue. A trace stops at the first of many cues that passes,
so the share of badly stopped traces grows with the number of looks and exceeds delta: these rules
promise nothing per request. They are here to be compared with (docs/guarantee.md has the figures).

* :func:`lynx_threshold`: LYNX (arXiv 2512.05325), class-conditional split conformal. With
  nonconformity 1 - p(true class), q_right comes from the cues whose stop is good and q_wrong from
  the others, each the ceil((n + 1)(1 - delta))-th smallest of its class; stop iff the prediction
  set is {right}: 1 - p <= q_right and p > q_wrong.
* :class:`MapiePerCue`: ``mapie.classification.SplitConformalClassifier(prefit=True,
  conformity_score="lac")`` on all cues pooled; stop iff its prediction set is {right}.
"""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from calibration.risk import check_alpha
from probes.errors import InputError

_BLOCK = 1 << 20  # scores that MAPIE sees at a time: it takes some 70 bytes for each


def conformal_rank(n: int, delta: float) -> int:
    """Give the rank ceil((n + 1)(1 - delta)) of the conformal quantile; beyond n it is infinite."""
    check_alpha(delta)
    return math.ceil((n + 1) * (1 - Fraction(repr(float(delta)))))


def lynx_threshold(good_scores: ArrayLike, bad_scores: ArrayLike, delta: float) -> float:
    """Give LYNX's rule as one threshold.

    Parameters
    ----------
    good_scores, bad_scores
        float32[n], the scores of all calibration cues whose stop would be good, and bad.
    delta
        LYNX's error level per cue, in (0, 1).

    Returns
    -------
    A float32 value: stop where float32(score) > threshold. +inf when there are too few bad cues for
    a quantile (the rank is never clamped).

    Notes
    -----
    p is a rising function of the score, so both conditions are bars on the score itself: at least
    the score of rank k_right from the top among good cues, and more than that of rank k_wrong from
    the bottom among bad ones. In float32 "at least a" is "more than the number before a".
    """
    good = np.asarray(good_scores, dtype=np.float32).ravel()
    bad = np.asarray(bad_scores, dtype=np.float32).ravel()
    rank_good, rank_bad = conformal_rank(len(good), delta), conformal_rank(len(bad), delta)
    if rank_bad > len(bad):
        return math.inf
    more_than = np.partition(bad, rank_bad - 1)[rank_bad - 1]
    if rank_good > len(good):
        return float(more_than)
    at_least = np.partition(good, len(good) - rank_good)[len(good) - rank_good]
    return float(max(more_than, np.nextafter(at_least, np.float32(-np.inf))))


class MapiePerCue:
    """MAPIE's split conformal classifier (LAC) over pooled cues, on p = sigmoid(score).

    Parameters
    ----------
    good_scores, bad_scores
        float32[n], as in :func:`lynx_threshold`.
    delta
        1 - the classifier's confidence level.

    Raises
    ------
    InputError
        When there are too few cues for this delta.
    """

    def __init__(self, good_scores: ArrayLike, bad_scores: ArrayLike, delta: float) -> None:
        from mapie.classification import SplitConformalClassifier

        good = np.asarray(good_scores, dtype=np.float32).ravel()
        bad = np.asarray(bad_scores, dtype=np.float32).ravel()
        n = len(good) + len(bad)
        check_alpha(delta)
        scores = np.concatenate([good, bad])[:, np.newaxis]
        right = np.repeat(np.array([1, 0], dtype=np.int8), [len(good), len(bad)])
        classifier = SplitConformalClassifier(
            estimator=_score_classifier(), confidence_level=1 - delta, prefit=True
        )
        with warnings.catch_warnings():
            # One class only is for the caller to judge; the quantile is defined all the same.
            warnings.filterwarnings("ignore", "WARNING: your conformalization dataset has less")
            self._classifier = classifier.conformalize(scores, right)
        try:  # MAPIE checks the number of cues against its level only when it predicts
            self._classifier.predict_set(scores[:1])
        except ValueError:
            raise InputError(
                f"{n} cues are too few for MAPIE's quantile at delta {delta:g}."
            ) from None

    def passes(self, scores: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Tell at which cues the prediction set is {right}; bool[n_cues]."""
        if len(scores) == 0:
            return np.zeros(0, dtype=np.bool_)
        blocks = range(0, len(scores), _BLOCK)
        return np.concatenate([self._passes(scores[first : first + _BLOCK]) for first in blocks])

    def _passes(self, scores: NDArray[np.float32]) -> NDArray[np.bool_]:
        _, sets = self._classifier.predict_set(np.asarray(scores)[:, np.newaxis])
        wrong_in, right_in = sets[:, 0, 0].astype(np.bool_), sets[:, 1, 0].astype(np.bool_)
        return np.asarray(right_in & ~wrong_in, dtype=np.bool_)


def _score_classifier() -> Any:
    """Wrap the score as a fitted scikit-learn classifier with classes 0 (bad) and 1 (good)."""
    from sklearn.base import BaseEstimator, ClassifierMixin

    class ScoreClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        classes_ = np.array([0, 1])
        n_features_in_ = 1

        def fit(self, scores: Any, right: Any) -> Any:
            return self

        def predict_proba(self, scores: Any) -> NDArray[np.float64]:
            right = expit(np.asarray(scores, dtype=np.float64)[:, 0])
            return np.stack([1 - right, right], axis=1)

        def predict(self, scores: Any) -> NDArray[np.int64]:
            return np.asarray(self.predict_proba(scores).argmax(axis=1), dtype=np.int64)

        def __sklearn_is_fitted__(self) -> bool:
            return True

    return ScoreClassifier()
