"""The picture of a comparison: what each rule spends, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from calibration.evaluate import Outcome
from calibration.files import replacing
from calibration.rules.comparison import Comparison, Row
from probes.errors import UnsupportedError

_STYLES = {
    "risk": ("o", "#0b6e99", "guarantees the risk"),
    "tokens": ("s", "#e09f3e", "guarantees the tokens"),
    "none": ("^", "#d1495b", "no guarantee"),
}
_DARK = "#2b2d42"


def plot_comparison(comparison: Comparison, path: str | Path, title: str = "") -> None:
    """Draw tokens against accuracy, and each rule's share of bad stops with its interval.

    Where accuracies are unknown (no gold answers), the left panel shows the share of traces that
    are not stopped badly instead.

    Parameters
    ----------
    comparison
        With at least one row.
    path
        The PNG to write; it appears when it is complete.
    title
        Above both panels.

    Raises
    ------
    InputError
        When the file cannot be written.
    UnsupportedError
        When matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UnsupportedError(
            "plots need matplotlib; install it with `pip install 'stopper[calibrate]'`."
        ) from None

    rows = comparison.rows
    everything = [comparison.full, comparison.oracle, *(row.outcome for row in rows)]
    known = all(outcome.accuracy is not None for outcome in everything)

    def height(outcome: Outcome) -> float:
        if known and outcome.accuracy is not None:
            return 100 * outcome.accuracy
        return 100 * (1 - outcome.bad_stop_share)

    figure = Figure(figsize=(12, max(4.8, 1.5 + 0.3 * len(rows))), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for guarantee, (marker, colour, label) in _STYLES.items():
        chosen = [row.outcome for row in rows if row.guarantee == guarantee]
        if chosen:
            spent = [outcome.tokens + outcome.extra_tokens for outcome in chosen]
            left.plot(spent, list(map(height, chosen)), marker, color=colour, label=label)
    left.plot(comparison.full.tokens, height(comparison.full), "D", color=_DARK, label="full trace")
    left.plot(comparison.oracle.tokens, height(comparison.oracle), "*", color=_DARK, label="oracle")
    places = [(row.outcome.tokens + row.outcome.extra_tokens, height(row.outcome)) for row in rows]
    for at, numbers in _labels(places).items():
        left.annotate(numbers, at, xytext=(5, 4), textcoords="offset points", fontsize=8)
    left.set_xlabel("mean tokens: thinking, and what the rule generates beside it")
    left.set_ylabel("accuracy, %" if known else "traces not stopped badly, %")
    left.set_title(f"{comparison.n_test} test traces", fontsize=10)
    left.set_xlim(left=0)
    left.margins(y=0.12)
    left.grid(alpha=0.3)
    left.legend(fontsize=8, loc="best")

    for place, row in enumerate(rows):
        share, (low, high) = _interval(row)
        marker, colour, _ = _STYLES[row.guarantee]
        error = [[share - low], [high - share]]
        right.errorbar([share], [place], xerr=error, fmt=marker, color=colour, capsize=3)
    names = [f"{number}  {comparison.label(row)}" for number, row in enumerate(rows, start=1)]
    right.set_yticks(range(len(rows)), names, fontsize=9)
    right.invert_yaxis()
    right.axvline(100 * comparison.terms.alpha, color=_DARK, linewidth=1)
    right.set_xlim(left=0)
    right.set_xlabel(f"traces stopped badly ('{comparison.terms.loss}'), %, 95 % interval")
    right.set_title(f"the line is alpha = {comparison.terms.alpha:g}", fontsize=10)
    right.grid(alpha=0.3, axis="x")
    if title:
        figure.suptitle(title, fontsize=11)
    with replacing(path) as file:
        figure.savefig(file, format="png")


def _labels(places: Sequence[tuple[float, float]]) -> dict[tuple[float, float], str]:
    """Give the points their numbers, one label where several nearly coincide."""
    widths = [max(axis) - min(axis) or 1.0 for axis in zip(*places, strict=True)]
    labels: dict[tuple[float, float], str] = {}
    for number, (x, y) in enumerate(places, start=1):
        near = [
            at
            for at in labels
            if abs(at[0] - x) < 0.03 * widths[0] and abs(at[1] - y) < 0.03 * widths[1]
        ]
        if near:
            labels[near[0]] += f", {number}"
        else:
            labels[x, y] = str(number)
    return labels


def _interval(row: Row) -> tuple[float, tuple[float, float]]:
    share = 100 * row.outcome.bad_stop_share
    low, high = row.outcome.bad_stop_interval or (share / 100, share / 100)
    return share, (100 * low, 100 * high)
