"""Where in the trace the rule stops, and what is left of the thinking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.evaluate import NEVER
from calibration.page import words
from calibration.page.canvas import Numbers, Picture, Theme, legend_above
from calibration.table import CueTable

PLACES = 20
LENGTHS = 30


@dataclass(frozen=True, eq=False)
class StopPlaces:
    """Stops by their place.

    Attributes
    ----------
    shares
        float64[n_stopped], tokens spent at the stop over those of the full trace, in [0, 1].
    bad
        bool[n_stopped].
    full, spent
        int64[n_traces], thinking tokens without and with stopping.
    """

    shares: NDArray[np.float64]
    bad: NDArray[np.bool_]
    full: NDArray[np.int64]
    spent: NDArray[np.int64]

    @property
    def never(self) -> int:
        """Traces that think to their end."""
        return len(self.full) - len(self.shares)


def stop_places(table: CueTable, bad: NDArray[np.bool_], stops: NDArray[np.int64]) -> StopPlaces:
    """Locate stops.

    Parameters
    ----------
    table
        The traces.
    bad
        bool[n_cues], the loss at each cue.
    stops
        int64[n_traces], the cue of each trace's stop or -1.
    """
    stopped = stops != NEVER
    at = stops[stopped]
    spent = table.tokens.copy()
    spent[stopped] = table.positions[at]
    # A cue lies at most at the trace's end; a trace of no tokens is at its end from the start.
    length = np.maximum(table.tokens[stopped], 1)
    return StopPlaces(
        shares=np.minimum(table.positions[at] / length, 1.0),
        bad=bad[at],
        full=table.tokens,
        spent=spent,
    )


def place_picture(found: StopPlaces) -> Picture:
    """Draw the stops over the share of the trace that had been thought."""
    n, stopped = len(found.full), len(found.shares)
    half = float(np.median(found.shares)) if stopped else None
    middle = "no trace is stopped" if half is None else f"half of the stops come before {_pc(half)}"
    badly = int(found.bad.sum())
    return Picture(
        name="place",
        title="Place of the stops in the trace",
        caption=(
            "Stopped test traces by the share of their full thinking that was spent at the stop: "
            "0\xa0% is the beginning, 100\xa0% the end. Far left saves most. Orange, hatched: bad "
            f"stops. Not drawn: {words.count(found.never)} of {words.count(n)} traces that think "
            "to their end."
        ),
        alt=(
            f"Histogram of {words.count(stopped)} stops over the share of the trace, "
            f"{words.count(badly)} of them bad; {middle}."
        ),
        draw=lambda axes, theme: _draw_places(axes, theme, found),
        numbers=Numbers(
            ("place in the trace", "stops", "bad stops"),
            (
                *(
                    (f"{_pc(low)} to {_pc(low + 0.1)}", *map(words.count, _within(found, low)))
                    for low in np.arange(10) / 10
                ),
                ("never stopped", words.count(found.never), words.count(0)),
            ),
        ),
    )


def length_picture(found: StopPlaces) -> Picture:
    """Draw how long the traces think, without and with stopping."""
    before, after = float(found.full.mean()), float(found.spent.mean())
    levels = (0.1, 0.5, 0.9, 0.99)
    return Picture(
        name="lengths",
        title="How long it thinks, before and after",
        caption=(
            "All test traces by the thinking tokens they take. Outline: without stopping. Filled: "
            "with it. What moves to the left is saved; a hump that stays at the right are traces "
            "which the rule never trusts. Dashed and dotted: the means. The longest one per cent "
            "is counted in the last bar."
        ),
        alt=(
            f"Histograms of thinking tokens per request: mean {words.tokens_text(before)} without "
            f"stopping, {words.tokens_text(after)} with it."
        ),
        draw=lambda axes, theme: _draw_lengths(axes, theme, found),
        numbers=Numbers(
            ("thinking tokens", "without stopping", "with stopping"),
            (
                ("mean", words.tokens_text(before), words.tokens_text(after)),
                *(
                    (
                        f"{_pc(level)} of the requests take at most",
                        words.count(int(np.quantile(found.full, level, method="higher"))),
                        words.count(int(np.quantile(found.spent, level, method="higher"))),
                    )
                    for level in levels
                ),
            ),
        ),
    )


def _pc(share: float) -> str:
    return words.percent(share, 0)


def _within(found: StopPlaces, low: float) -> tuple[int, int]:
    """Count stops and bad stops in the tenth that begins at `low`, its upper end included."""
    tenth = np.maximum(np.ceil(found.shares * 10 - 1e-9).astype(np.int64) - 1, 0)
    inside = tenth == round(low * 10)
    return int(inside.sum()), int((inside & found.bad).sum())


def _draw_places(axes: Any, theme: Theme, found: StopPlaces) -> None:
    edges = np.linspace(0, 100, PLACES + 1)
    good = np.histogram(100 * found.shares[~found.bad], edges)[0]
    bad = np.histogram(100 * found.shares[found.bad], edges)[0]
    width = edges[1] - edges[0]
    axes.bar(edges[:-1], good, width, align="edge", facecolor=theme.good, edgecolor=theme.surface,
             linewidth=0.5, label="good stops")  # fmt: skip
    some = bad > 0  # a bar of no height would still show its edge
    axes.bar(edges[:-1][some], bad[some], width, bottom=good[some], align="edge",
             facecolor=theme.surface, edgecolor=theme.bad, hatch="////", linewidth=0.8,
             label="bad stops")  # fmt: skip
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 1.05 * max(1, int((good + bad).max())))
    axes.set_xlabel("spent at the stop, % of the full thinking")
    axes.set_ylabel("test traces")
    legend_above(axes)
    if not len(found.shares):
        axes.text(0.5, 0.5, "no trace is stopped", transform=axes.transAxes, ha="center")


def _draw_lengths(axes: Any, theme: Theme, found: StopPlaces) -> None:
    end = max(1.0, float(np.quantile(found.full, 0.99)))
    edges = np.linspace(0, end, LENGTHS + 1)
    before = np.histogram(np.minimum(found.full, end), edges)[0]
    after = np.histogram(np.minimum(found.spent, end), edges)[0]
    axes.stairs(after, edges, fill=True, facecolor=theme.ours, alpha=0.55, label="with stopping")
    axes.stairs(before, edges, color=theme.ink, linewidth=1.4, label="without")
    for tokens, colour, style in (
        (float(found.spent.mean()), theme.ours, "--"),
        (float(found.full.mean()), theme.ink, ":"),
    ):
        axes.axvline(tokens, color=colour, linestyle=style, linewidth=1.4)
    axes.plot([], [], color=theme.muted, linestyle="--", label="means")
    axes.set_xlim(0, end)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("thinking tokens per request")
    axes.set_ylabel("test traces")
    legend_above(axes, columns=3)
