"""The picture of an evaluation: what is saved at which accuracy, and whether alpha was kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calibration.evaluate import Outcome
from calibration.files import replacing
from calibration.report import Evaluation
from probes.errors import InputError, UnsupportedError

_COLOURS = {"stopped": "#0b6e99", "lynx": "#d1495b", "budget": "#8d99ae", "mark": "#2b2d42"}


def plot_evaluations(evaluations: Sequence[Evaluation], path: str | Path, title: str = "") -> None:
    """Draw tokens against accuracy over alpha, and the share of bad stops against alpha.

    Parameters
    ----------
    evaluations
        Of one rule on one data set, one per alpha, at least one.
    path
        The PNG to write; it appears when it is complete.
    title
        Above both panels.

    Notes
    -----
    Where accuracies are unknown (no gold answers), the left panel shows the share of traces that
    are not stopped badly instead.

    Raises
    ------
    InputError
        When there is nothing to draw or the file cannot be written.
    UnsupportedError
        When matplotlib is not installed.
    """
    if not evaluations:
        raise InputError(f"{path}: there is no alpha to plot.")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UnsupportedError(
            "plots need matplotlib; install it with `pip install 'stopper[calibrate]'`."
        ) from None

    ordered = sorted(evaluations, key=lambda evaluation: evaluation.alpha)
    # A figure of its own: pyplot would choose a backend and keep global state.
    figure = Figure(figsize=(11, 4.8), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _draw_savings(left, ordered)
    _draw_risk(right, ordered)
    if title:
        figure.suptitle(title, fontsize=11)
    with replacing(path) as file:
        figure.savefig(file, format="png")


def _draw_savings(axes: Any, evaluations: Sequence[Evaluation]) -> None:
    first = evaluations[0]
    known = all(row.accuracy is not None for e in evaluations for row in e.rows)

    def height(outcome: Outcome) -> float:
        if known and outcome.accuracy is not None:
            return 100 * outcome.accuracy
        return 100 * (1 - outcome.bad_stop_share)

    def curve(outcomes: list[Outcome | None], label: str, colour: str, style: str) -> None:
        points = [(o.tokens, height(o)) for o in outcomes if o is not None]
        if points:
            tokens, heights = zip(*sorted(points), strict=True)
            axes.plot(tokens, heights, style, color=colour, label=label, markersize=5)

    curve([e.budget for e in evaluations], "token budget", _COLOURS["budget"], "s--")
    curve([e.lynx for e in evaluations], "LYNX per cue", _COLOURS["lynx"], "^:")
    curve([e.stopped for e in evaluations], first.stopped.rule, _COLOURS["stopped"], "o-")
    axes.plot(first.full.tokens, height(first.full), "D", color=_COLOURS["mark"], label="full")
    axes.plot(
        first.oracle.tokens, height(first.oracle), "*", color="#e09f3e", label="oracle", ms=13
    )
    _label_alphas(axes, [(e.alpha, e.stopped.tokens, height(e.stopped)) for e in evaluations])
    axes.set_xlabel("mean thinking tokens")
    axes.set_ylabel("accuracy, %" if known else "traces not stopped badly, %")
    axes.set_title(f"{first.n_test} test traces", fontsize=10)
    axes.set_xlim(left=0)
    axes.margins(y=0.12)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="best")


def _label_alphas(axes: Any, points: Sequence[tuple[float, float, float]]) -> None:
    """Write alpha beside the curve's points, leaving out those that would overlap."""
    span = max(tokens for _, tokens, _ in points) or 1.0
    last = None
    for alpha, tokens, height in sorted(points, key=lambda point: point[1]):
        if last is not None and tokens - last < 0.05 * span:
            continue
        last = tokens
        axes.annotate(
            f"{alpha:g}",
            (tokens, height),
            xytext=(4, -11),
            textcoords="offset points",
            fontsize=8,
            color=_COLOURS["stopped"],
        )


def _draw_risk(axes: Any, evaluations: Sequence[Evaluation]) -> None:
    first = evaluations[0]
    alphas = [100 * e.alpha for e in evaluations]
    shares = [100 * e.stopped.bad_stop_share for e in evaluations]
    intervals = [e.stopped.bad_stop_interval or (0.0, 0.0) for e in evaluations]
    below = [share - 100 * low for share, (low, _) in zip(shares, intervals, strict=True)]
    above = [100 * high - share for share, (_, high) in zip(shares, intervals, strict=True)]
    top = 1.1 * max(alphas)
    axes.plot([0, top], [0, top], "-", color=_COLOURS["mark"], linewidth=1, label="alpha")
    axes.errorbar(
        alphas,
        shares,
        yerr=[below, above],
        fmt="o-",
        color=_COLOURS["stopped"],
        capsize=3,
        markersize=5,
        label=f"{first.stopped.rule}, 95 % interval",
    )
    lynx = [(100 * e.alpha, 100 * e.lynx.bad_stop_share) for e in evaluations if e.lynx]
    if lynx:
        deltas, broken = zip(*lynx, strict=True)
        axes.plot(deltas, broken, "^:", color=_COLOURS["lynx"], markersize=5, label="LYNX per cue")
    axes.set_xlabel("alpha asked for, %")
    axes.set_ylabel(f"traces stopped badly ('{first.loss}'), %")
    axes.set_title("kept where at or below the line", fontsize=10)
    axes.set_xlim(0, top)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left")
