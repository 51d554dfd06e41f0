"""What the probe sees: scores of good and bad cues around the threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.page import words
from calibration.page.canvas import Numbers, Picture, Theme, legend_above
from calibration.rules import DEFAULT_RULE

BINS = 36


@dataclass(frozen=True, eq=False)
class ScoreHistogram:
    """Scores by class in shared bins.

    Attributes
    ----------
    edges
        float64[n_bins + 1]; scores beyond the ends are counted in the outermost bins.
    good, bad
        int64[n_bins], cues.
    threshold
        May be infinite; None where the rule has no single one.
    good_above, bad_above
        Cues whose score is above the threshold.
    """

    edges: NDArray[np.float64]
    good: NDArray[np.int64]
    bad: NDArray[np.int64]
    threshold: float | None
    good_above: int
    bad_above: int


def score_histogram(
    scores: NDArray[np.float32],
    bad: NDArray[np.bool_],
    threshold: float | None,
    bins: int = BINS,
) -> ScoreHistogram:
    """Count scores by class.

    Parameters
    ----------
    scores
        float32[n_cues], at least one; -inf where a rule never stops.
    bad
        bool[n_cues].
    threshold
        On these scores.
    """
    values = scores.astype(np.float64)
    finite = values[np.isfinite(values)]
    # The outermost half per cent of either side would stretch the axis: it goes to the end bins.
    low, high = map(float, np.quantile(finite, [0.005, 0.995])) if finite.size else (0.0, 0.0)
    if threshold is not None and math.isfinite(threshold):
        low, high = min(low, threshold), max(high, threshold)
    margin = 0.02 * (high - low) or 0.5
    edges = np.linspace(low - margin, high + margin, bins + 1)
    clipped = np.clip(values, edges[0], edges[-1])
    above = scores > np.float32(math.inf if threshold is None else threshold)
    return ScoreHistogram(
        edges=edges,
        good=np.histogram(clipped[~bad], edges)[0].astype(np.int64),
        bad=np.histogram(clipped[bad], edges)[0].astype(np.int64),
        threshold=threshold,
        good_above=int((above & ~bad).sum()),
        bad_above=int((above & bad).sum()),
    )


def scores_picture(found: ScoreHistogram, rule: str, auroc: float | None) -> Picture:
    """Draw good cues upwards, bad ones downwards, each as shares of its class.

    Parameters
    ----------
    found
        What to draw.
    rule
        Name of the stopping rule; what is drawn is its score.
    auroc
        Of the probe's score; None with one class only.
    """
    n_good, n_bad = int(found.good.sum()), int(found.bad.sum())
    absent = " (there are none of one class)" if 0 in (n_good, n_bad) else ""
    if found.threshold is None:
        line = f"The rule '{rule}' has no single threshold on this score, so that none is drawn."
    else:
        line = (
            "The rule stops at a trace's first cue right of the dashed line. The less the two "
            "overlap there, the more can be saved. The promise holds even with a useless probe: "
            "then the line moves so far right that nothing is stopped."
        )
    if rule != DEFAULT_RULE:
        line = f"Drawn is the score that the rule '{rule}' makes of the probe's. {line}"
    above: tuple[tuple[str, ...], ...] = ()
    if found.threshold is not None:
        above = (
            ("above the threshold", *map(words.count, (found.good_above, found.bad_above))),
            ("share above", _part(found.good_above, n_good), _part(found.bad_above, n_bad)),
        )
    return Picture(
        name="scores",
        title="What the probe sees",
        caption=(
            "Every cue of the test traces by its score. Upwards, in blue: cues at which stopping "
            "would be good. Downwards, hatched: cues at which it would be bad. Each class adds up "
            f"to 100\xa0%{absent}. {line}"
        ),
        alt=(
            f"Histogram of scores of {words.count(n_good)} good and {words.count(n_bad)} bad cues; "
            + (
                "no single threshold."
                if found.threshold is None
                else f"threshold: {words.threshold_text(found.threshold)}. Above it lie "
                f"{_part(found.good_above, n_good)} of the good and "
                f"{_part(found.bad_above, n_bad)} of the bad cues."
            )
        ),
        draw=lambda axes, theme: _draw(axes, theme, found),
        numbers=Numbers(
            ("cues", "good to stop", "bad to stop"),
            (
                ("all", words.count(n_good), words.count(n_bad)),
                *above,
                ("AUROC of the probe", "one class only" if auroc is None else f"{auroc:.3f}", ""),
            ),
        ),
    )


def _part(count: int, total: int) -> str:
    return words.percent(count / total) if total else "none"


def _draw(axes: Any, theme: Theme, found: ScoreHistogram) -> None:
    widths = np.diff(found.edges)
    for counts, sign, colour, label, hatch in (
        (found.good, 1, theme.good, "good to stop", None),
        (found.bad, -1, theme.bad, "bad to stop", "////"),
    ):
        shares = 100 * sign * counts / max(1, counts.sum())
        axes.bar(
            found.edges[:-1], shares, widths, align="edge", label=label, alpha=0.85,
            facecolor=colour if hatch is None else theme.surface, edgecolor=colour,
            hatch=hatch, linewidth=0.6,
        )  # fmt: skip
    axes.axhline(0, color=theme.muted, linewidth=0.8)
    if found.threshold is not None and math.isfinite(found.threshold):
        axes.axvline(found.threshold, color=theme.ink, linestyle="--", linewidth=1.4,
                     label=f"threshold {words.threshold_text(found.threshold)}")  # fmt: skip
    axes.margins(x=0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.set_xlabel("score (higher: safer to stop)")
    axes.set_ylabel("share of its class, %")
    legend_above(axes, columns=3)
