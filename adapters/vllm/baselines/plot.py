"""The Pareto plot: all generated tokens against accuracy, and against the share of bad stops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters.vllm.baselines.comparison import Compared
from adapters.vllm.baselines.figures import Row
from calibration.files import replacing
from stopper.errors import UnsupportedError

_COLOURS = {"risk": "#0b6e99", "tokens": "#e09f3e", "none": "#d1495b", "mark": "#2b2d42"}
_MEANING = {"risk": "promises the share of bad stops", "tokens": "promises its tokens",
            "none": "promises nothing"}  # fmt: skip


def plot_rules(found: Compared, path: str | Path, title: str = "") -> None:
    """Draw every rule as a labelled point.

    Where gold answers are missing the left panel shows the share of prompts not changed badly.

    Raises
    ------
    UnsupportedError
        When matplotlib is not installed.

    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
    except ImportError:
        raise UnsupportedError(
            "plots need matplotlib; install it with `pip install 'stopper[calibrate]'`."
        ) from None
    figure = Figure(figsize=(12, 5.6), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    every = [found.full, *found.rows, found.oracle]
    known = all(row.accuracy is not None for row in every)

    def height(row: Row) -> float:
        share = row.accuracy if known and row.accuracy is not None else 1 - row.bad_stop_share
        return 100 * share

    for row in every:
        left.plot(row.all_tokens, height(row), _marker(row), color=_colour(row), markersize=8)
    left.set_ylabel("accuracy, %" if known else "prompts not changed badly, %")
    left.set_title("further left and higher is better", fontsize=10)
    for row in found.rows:
        low, high = row.bad_stop_interval
        share = 100 * row.bad_stop_share
        right.errorbar(
            row.all_tokens,
            share,
            yerr=[[max(0.0, share - 100 * low)], [max(0.0, 100 * high - share)]],
            fmt=_marker(row),
            color=_colour(row),
            markersize=8,
            capsize=3,
            elinewidth=1,
        )
    right.axhline(100 * found.alpha, color=_COLOURS["mark"], linewidth=1, linestyle="--")
    right.set_ylabel(f"prompts changed badly ('{found.loss}'), %, 95 % interval")
    right.set_title(f"below the dashed line alpha {found.alpha:g} is kept", fontsize=10)
    for axes in (left, right):
        axes.set_xlabel("mean tokens generated per prompt, trials and overrun included")
        axes.set_xlim(left=0, right=1.08 * max(row.all_tokens for row in every))
        axes.grid(alpha=0.3)
        axes.margins(y=0.1)
    right.set_ylim(bottom=-6)
    kinds = [kind for kind in _MEANING if any(row.guarantee == kind for row in found.rows)]
    right.legend(
        handles=[
            Line2D([], [], marker="o", linestyle="", color=_COLOURS[kind], label=_MEANING[kind])
            for kind in kinds
        ],
        fontsize=8,
        loc="best",
    )
    if title:
        figure.suptitle(title, fontsize=11)
    canvas.draw()  # fixes the layout, on which the labels' places depend
    _label(left, [(row.title, row.all_tokens, height(row)) for row in every], [])
    bars = [(row.all_tokens, 100 * row.bad_stop_interval[0], row.all_tokens,
             100 * row.bad_stop_interval[1]) for row in found.rows]  # fmt: skip
    line = (0.0, 100 * found.alpha, right.get_xlim()[1], 100 * found.alpha)
    _label(
        right, [(row.title, row.all_tokens, 100 * row.bad_stop_share) for row in found.rows],
        [*bars, line],
    )  # fmt: skip
    with replacing(path) as file:
        figure.savefig(file, format="png")


def _marker(row: Row) -> str:
    return {"full": "D", "oracle": "*", "stopper": "s"}.get(row.rule, "o")


def _colour(row: Row) -> str:
    return _COLOURS["mark"] if row.rule in ("full", "oracle") else _COLOURS[row.guarantee]


def _label(
    axes: Any,
    points: Sequence[tuple[str, float, float]],
    lines: Sequence[tuple[float, float, float, float]],
) -> None:
    """Write each name beside its point, at the first place that covers no point, line or name.

    `lines` are upright or level, as (x, y, x, y).
    """
    inside = axes.get_window_extent()
    spots = [axes.transData.transform((x, y)) for _, x, y in points]
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in spots]
    for x0, y0, x1, y1 in lines:
        (a, b), (c, d) = axes.transData.transform([(x0, y0), (x1, y1)])
        taken.append((a - 4, b - 2, c + 4, d + 2))
    legend = axes.get_legend()
    if legend is not None:
        box = legend.get_window_extent()
        taken.append((box.x0, box.y0, box.x1, box.y1))
    for (name, x, y), (px, py) in zip(points, spots, strict=True):
        text = axes.annotate(name, (x, y), xytext=(0, 0), textcoords="offset points", fontsize=8,
                             ha="center", va="center")  # fmt: skip
        box = text.get_window_extent()
        scale = 72 / axes.figure.dpi
        for dx, dy in _places(box.width, box.height):
            cx, cy = px + dx, py + dy
            spot = (cx - box.width / 2, cy - box.height / 2, cx + box.width / 2,
                    cy + box.height / 2)  # fmt: skip
            within = (
                spot[0] > inside.x0 + 2
                and spot[2] < inside.x1 - 2
                and spot[1] > inside.y0 + 2
                and spot[3] < inside.y1 - 2
            )
            if within and not any(_overlap(spot, other) for other in taken):
                taken.append(spot)
                text.set_position((dx * scale, dy * scale))
                if max(abs(dx) - box.width / 2, abs(dy) - box.height / 2) > 16:
                    axes.annotate(
                        "", (x, y), xytext=(dx * scale, dy * scale), textcoords="offset points",
                        arrowprops={"arrowstyle": "-", "linewidth": 0.5, "shrinkA": 6},
                    )  # fmt: skip
                break


def _places(width: float, height: float) -> list[tuple[float, float]]:
    """Give offsets in pixels, nearest first: beside, above, below, then further out."""
    found = []
    for gap in (10, 20, 32, 46, 62, 80, 100):
        side, over = width / 2 + gap, height / 2 + gap
        found += [(side, 0), (-side, 0), (0, over), (0, -over)]
        found += [(side, over), (-side, over), (side, -over), (-side, -over)]
    return found


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
