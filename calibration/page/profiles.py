"""Is the traffic that of calibration: cues per trace, then and now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.page import words
from calibration.page.canvas import Numbers, Picture, Theme, legend_above
from calibration.profile import Histogram, Profile, profile_of
from calibration.table import CueTable


@dataclass(frozen=True, eq=False)
class CueProfile:
    """Cues per trace in the bins of the artifact's profile.

    Attributes
    ----------
    names
        Of the bins, such as "3 to 5".
    test
        float64[n_bins], shares of the test traces.
    calibration
        The same of the calibration traces; None where the artifact does not keep them.
    moved
        By column ("cues", "tokens", "scores"), the total variation distance between the two: the
        share of the mass that would have to change its bin. Empty without a profile.
    noise
        The same distances that two draws of these sizes from one population would show on average.
    """

    names: tuple[str, ...]
    test: NDArray[np.float64]
    calibration: NDArray[np.float64] | None
    moved: dict[str, float]
    noise: dict[str, float]


def cue_profile(table: CueTable, known: Profile | None) -> CueProfile:
    """Compare the test traces, at least one, with the calibration's profile."""
    counts = np.diff(table.offsets)
    if known is None:
        now = profile_of(table).cues
        return CueProfile(_bin_names(now.edges, counts), _shares(now.counts), None, {}, {})
    columns = {
        "cues": (known.cues, counts),
        "tokens": (known.tokens, table.tokens),
        "scores": (known.scores, table.scores),
    }
    moved, noise, now_counts = {}, {}, np.zeros(0)
    for name, (then, values) in columns.items():
        now = Histogram.of(values, then.edges)
        before, after = _shares(then.counts), _shares(now.counts)
        moved[name] = float(np.abs(before - after).sum() / 2)
        n_then, n_now = max(1, sum(then.counts)), max(1, len(values))
        # Mean absolute value of a normal with the variance of a difference of two proportions.
        pooled = (np.array(then.counts) + np.array(now.counts)) / (n_then + n_now)
        spread = np.sqrt(pooled * (1 - pooled) * (1 / n_then + 1 / n_now))
        noise[name] = float(np.sqrt(2 / np.pi) * spread.sum() / 2)
        if name == "cues":
            now_counts = after
    return CueProfile(
        _bin_names(known.cues.edges, counts), now_counts, _shares(known.cues.counts), moved, noise
    )


def profile_picture(found: CueProfile) -> Picture:
    """Draw the shares of traces by number of cues."""
    compare = found.calibration is not None
    caption = (
        "How many cues, places at which the rule may stop, a trace has. The more looks, the more "
        "chances to stop badly, so that the promise is tied to this mix. "
    )
    if compare:
        caption += (
            "Bars of one pair should be about equal: then the test traces look like those of the "
            "calibration. Where they differ much, calibrate again on the new traffic."
        )
    else:
        caption += "The artifact keeps no profile of its calibration traces to compare with."
    rows = [
        (
            name,
            *([] if found.calibration is None else [words.percent(float(found.calibration[i]))]),
            words.percent(float(found.test[i])),
        )
        for i, name in enumerate(found.names)
    ]
    for name, distance in found.moved.items():
        chance = words.percent(found.noise[name])
        title = f"moved between bins: {name} (by chance alone about {chance})"
        rows.append((title, "", words.percent(distance)))
    middle = ("calibration",) if compare else ()
    return Picture(
        name="cues",
        title="Does the traffic look like that of calibration?"
        if compare
        else "How many cues a trace has",
        caption=caption,
        alt="Shares of traces by number of cues: " + "; ".join(_spelled(found)) + ".",
        draw=lambda axes, theme: _draw(axes, theme, found),
        numbers=Numbers(("cues per trace", *middle, "test"), tuple(rows)),
    )


def _spelled(found: CueProfile) -> list[str]:
    parts = []
    for i, name in enumerate(found.names):
        then = ""
        if found.calibration is not None:
            then = f" (calibration {words.percent(float(found.calibration[i]))})"
        parts.append(f"{name}: {words.percent(float(found.test[i]))}{then}")
    return parts


def _shares(counts: Sequence[int]) -> NDArray[np.float64]:
    numbers = np.asarray(counts, dtype=np.float64)
    shares: NDArray[np.float64] = numbers / max(1.0, float(numbers.sum()))
    return shares


def _bin_names(edges: Sequence[float], counts: NDArray[np.int64]) -> tuple[str, ...]:
    """Name bins of whole numbers: bin i holds ``edges[i - 1] <= x < edges[i]``."""
    if not edges:
        lowest, highest = int(counts.min()), int(counts.max())
        return (f"{lowest}" if lowest == highest else f"{lowest} to {highest}",)
    starts = [0, *(int(np.ceil(edge)) for edge in edges)]
    names = []
    for start, following in pairwise(starts):
        last = following - 1
        # The first bin is empty where a quantile is the smallest count itself.
        names.append(f"{start}" if last <= start else f"{start} to {last}")
        if last < start:
            names[-1] = f"below {following}"
    return (*names, f"{starts[-1]} or more")


def _draw(axes: Any, theme: Theme, found: CueProfile) -> None:
    places = np.arange(len(found.names))
    width = 0.8 if found.calibration is None else 0.4
    if found.calibration is not None:
        axes.bar(places - width / 2, 100 * found.calibration, width, facecolor=theme.surface,
                 edgecolor=theme.muted, hatch="....", label="calibration")  # fmt: skip
    shift = 0.0 if found.calibration is None else width / 2
    axes.bar(places + shift, 100 * found.test, width, color=theme.ours, label="test")
    axes.set_xticks(places, [name.replace(" or more", "+").replace(" to ", "\N{EN DASH}")
                             for name in found.names])  # fmt: skip
    axes.grid(False, axis="x")
    axes.set_xlabel("cues per trace")
    axes.set_ylabel("traces, %")
    legend_above(axes)
