"""How far the score is a probability; nothing in the promise rests on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from calibration.evaluate import clopper_pearson
from calibration.page import words
from calibration.page.canvas import Numbers, Picture, Theme, legend_above
from probes.errors import UnsupportedError

BINS = 10


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """Said against found, in bins of equal width; empty ones are left out.

    Attributes
    ----------
    said, found
        float64[n_bins]: mean probability read from the score, share of positive labels.
    counts
        int64[n_bins].
    intervals
        float64[n_bins, 2], Clopper-Pearson of `found`, cues taken as independent.
    brier
        Mean squared difference over all cues.
    gap
        Mean of |said - found|, weighted by counts (expected calibration error).
    """

    said: NDArray[np.float64]
    found: NDArray[np.float64]
    counts: NDArray[np.int64]
    intervals: NDArray[np.float64]
    brier: float
    gap: float


def reliability_curve(
    scores: NDArray[np.float32], positive: NDArray[np.bool_], bins: int = BINS
) -> ReliabilityCurve:
    """Compare the sigmoid of scores, float32[n], with labels, bool[n]; n at least 1.

    Raises
    ------
    UnsupportedError
        When scikit-learn is not installed.
    """
    try:
        from sklearn.calibration import calibration_curve
    except ImportError:
        raise UnsupportedError(
            "reliability curves need scikit-learn; install it with "
            "`pip install 'stopper[calibrate]'`."
        ) from None
    said_all = expit(scores.astype(np.float64))
    found, said = calibration_curve(
        positive.astype(np.int64), said_all, n_bins=bins, strategy="uniform"
    )
    # scikit-learn keeps the sizes of its bins to itself: count by the same edges.
    edges = np.linspace(0.0, 1.0, bins + 1)
    counts = np.bincount(np.searchsorted(edges[1:-1], said_all), minlength=bins)
    counts = counts[counts > 0]
    intervals = [
        clopper_pearson(round(share * n), int(n)) for share, n in zip(found, counts, strict=True)
    ]
    return ReliabilityCurve(
        said=said,
        found=found,
        counts=counts.astype(np.int64),
        intervals=np.array(intervals, dtype=np.float64),
        brier=float(np.mean((said_all - positive) ** 2)),
        gap=float(np.average(np.abs(said - found), weights=counts)),
    )


def reliability_picture(curve: ReliabilityCurve, label: str, meaning: str) -> Picture:
    """Draw the curve.

    Parameters
    ----------
    curve
        What to draw.
    label
        Name of the labels that the scores were compared with.
    meaning
        What the score is after shaping, a sentence.
    """
    return Picture(
        name="reliability",
        title="Is the score a probability?",
        caption=(
            "Cues sorted by score into ten groups. Left to right: the probability "
            "that the score would mean if read as log-odds. Upwards: how often the label "
            f"'{label}' was true, with 95\xa0% intervals (a little too short: cues of one trace "
            f"resemble each other). On the diagonal the score can be read as it stands. {meaning} "
            "The promise does not need the diagonal: only the order of scores counts."
        ),
        alt=(
            f"Reliability curve with {len(curve.counts)} points from "
            f"{words.percent(float(curve.found[0]))} true at a score read as "
            f"{words.percent(float(curve.said[0]))} to {words.percent(float(curve.found[-1]))} at "
            f"{words.percent(float(curve.said[-1]))}; mean distance from the diagonal "
            f"{words.percent(curve.gap)}."
        ),
        draw=lambda axes, theme: _draw(axes, theme, curve),
        numbers=Numbers(
            ("score read as", "label true", "95\xa0% interval", "cues"),
            (
                *_rows(curve),
                ("mean distance", words.percent(curve.gap), "", ""),
                ("Brier score", f"{curve.brier:.4f}", "", ""),
            ),
        ),
    )


def _rows(curve: ReliabilityCurve) -> list[tuple[str, ...]]:
    columns = zip(curve.said, curve.found, curve.intervals, curve.counts, strict=True)
    return [
        (
            words.percent(float(said)),
            words.percent(float(found)),
            words.interval_text((float(low), float(high))),
            words.count(int(n)),
        )
        for said, found, (low, high), n in columns
    ]


def _draw(axes: Any, theme: Theme, curve: ReliabilityCurve) -> None:
    said, found = 100 * curve.said, 100 * curve.found
    bars = np.abs(100 * curve.intervals.T - found)
    axes.plot([0, 100], [0, 100], color=theme.muted, linewidth=1.2, label="a true probability")
    axes.errorbar(
        said, found, yerr=bars, fmt="o-", color=theme.ours, capsize=3, markersize=5,
        label="the score, 95 % interval",
    )  # fmt: skip
    axes.set_xlim(-2, 102)
    axes.set_ylim(-2, 102)
    axes.set_xlabel("score read as a probability, %")
    axes.set_ylabel("label true, %")
    legend_above(axes)
