"""How well scores tell good stops from bad ones; scikit-learn is imported on first use."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def quality(
    scores: npt.ArrayLike, labels: npt.ArrayLike, bins: int = 10
) -> dict[str, float | int | None]:
    """Measure scores against labels.

    Parameters
    ----------
    scores
        [n] finite logits of "safe to stop here".
    labels
        bool [n].
    bins
        Of equal width in probability, for the calibration error.

    Returns
    -------
    dict
        ``n``; ``positive_share``; ``auroc`` and ``auprc`` (None where one class is missing);
        ``brier``, the mean squared error of the probability; ``ece``, the mean distance between
        predicted and observed share over bins, weighted by their size (Guo et al. 2017).

    Examples
    --------
    >>> quality([-2.0, -1.0, 1.0, 2.0], [False, False, True, True])["auroc"]
    1.0

    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    logit = np.asarray(scores, dtype=np.float64)
    truth = np.asarray(labels, dtype=bool)
    both = bool(truth.any() and not truth.all())
    probability = sigmoid(logit)
    return {
        "n": int(truth.size),
        "positive_share": float(truth.mean()),
        "auroc": float(roc_auc_score(truth, logit)) if both else None,
        "auprc": float(average_precision_score(truth, logit)) if both else None,
        "brier": float(np.mean((probability - truth) ** 2)),
        "ece": calibration_error(probability, truth, bins),
    }


def calibration_error(
    probability: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_], bins: int = 10
) -> float:
    """Return the expected calibration error over ``bins`` equal bins of probability."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    gap = np.bincount(place, weights=probability - truth, minlength=bins)
    # count cancels: sum over bins of (count / n) * |gap / count|.
    return float(np.abs(gap[count > 0]).sum() / truth.size)


def sigmoid(logit: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Turn logits into probabilities without overflow."""
    small = np.exp(-np.abs(logit))
    share: npt.NDArray[np.float64] = np.where(logit >= 0, 1.0, small) / (1.0 + small)
    return share


def log_loss(
    logit: npt.NDArray[np.float64],
    truth: npt.NDArray[np.bool_],
    weight: npt.NDArray[np.float64],
) -> float:
    """Return the weighted mean logistic loss of logits."""
    margin = np.where(truth, logit, -logit)
    return float(np.average(np.logaddexp(0.0, -margin), weights=weight))
