"""The picture of a sentence filter: recall over tokens kept, and risk over alpha."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from calibration.dropping import interval
from calibration.files import replacing
from stopper.errors import UnsupportedError
from stopper.relevance.evaluating import Judgement

_OURS, _MARK, _GRID = "#0b6fa4", "#c4461a", "#dfe4ea"


def draw(found: Judgement, path: str | Path) -> None:
    """Draw a judgement as PNG.

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
            "plots need matplotlib; install it with `pip install 'stopper[calibrate]'`"
        ) from None
    # A figure of its own: pyplot would choose a backend and keep global state.
    figure = Figure(figsize=(11, 4.8), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _draw_recall(left, found)
    _draw_risk(right, found)
    with replacing(path) as file:
        figure.savefig(file, format="png")


def _draw_recall(axes: Any, found: Judgement) -> None:
    points = sorted((one.share, one.recall) for one in found.at_recall.values())
    axes.plot(
        [100 * x for x, _ in points], [100 * y for _, y in points], "s--", color=_MARK,
        label="thresholds by recall, answers known",
    )  # fmt: skip
    curve = sorted((one.share, one.recall, alpha) for alpha, one in found.curve)
    axes.plot(
        [100 * x for x, _, _ in curve], [100 * y for _, y, _ in curve], "o-", color=_OURS,
        label="calibrated, by alpha",
    )  # fmt: skip
    for x, y, alpha in curve:
        axes.annotate(
            f"{alpha:g}",
            (100 * x, 100 * y),
            xytext=(4, -11),
            textcoords="offset points",
            fontsize=8,
        )
    axes.set_xlabel("tokens kept, %")
    axes.set_ylabel("needed sentences kept, %")
    axes.set_xlim(left=0)
    at = found.at_alpha
    area = "" if found.auroc is None else f", AUROC {found.auroc:.3f}"
    axes.set_title(f"{at.queries} held-out queries{area}", fontsize=10)
    axes.grid(color=_GRID)
    axes.legend(fontsize=8, loc="lower right")


def _draw_risk(axes: Any, found: Judgement) -> None:
    alphas = [100 * alpha for alpha, _ in found.curve]
    risks = [100 * one.risk for _, one in found.curve]
    bounds = [interval(one.hurt, one.queries) for _, one in found.curve]
    below = [risk - 100 * low for risk, (low, _) in zip(risks, bounds, strict=True)]
    above = [100 * high - risk for risk, (_, high) in zip(risks, bounds, strict=True)]
    axes.plot([0, max(alphas)], [0, max(alphas)], color=_MARK, label="promised: at most alpha")
    axes.errorbar(
        alphas, risks, yerr=[below, above], fmt="o", capsize=3, color=_OURS,
        label="measured, 95 % interval",
    )  # fmt: skip
    axes.set_xlabel("alpha, %")
    axes.set_ylabel("queries that lost a needed sentence, %")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(color=_GRID)
    axes.legend(fontsize=8, loc="upper left")
