"""Passes against agreement, ways to decode as points, in one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.files import replacing
from calibration.page.canvas import LIGHT, Numbers, Picture, Theme, legend_above
from calibration.page.labels import place_labels
from probes.errors import InputError

_LOOKS = {
    "full": ("full decode", "D", 6),
    "ours": ("stopper, by alpha", "o", 8),
    "rival": ("no guarantee", "^", 6),
    "oracle": ("oracle", "*", 12),
}


@dataclass(frozen=True, slots=True)
class Point:
    """A way to decode: its mean passes a request, and how often it agrees with the full decode.

    ``kind`` is "full", "ours", "rival" or "oracle".
    """

    name: str
    steps: float
    agreement: float
    kind: str


def plot_points(points: Sequence[Point], path: str | Path, title: str = "") -> None:
    """Draw points, numbered as in the given order, with their names below.

    Raises
    ------
    InputError
        When there is nothing to draw or the file cannot be written.
    UnsupportedError
        When matplotlib is not installed.

    """
    if not points:
        raise InputError(f"{path}: there is nothing to plot.")
    picture = Picture(
        name="points",
        title=title,
        caption="",
        alt="",
        draw=lambda axes, theme: _draw(axes, theme, points, title),
        numbers=Numbers((), ()),
        height=4.6,
    )
    with replacing(path) as file:
        file.write(picture.png(LIGHT))


def draw_points(axes: Any, theme: Theme, points: Sequence[Point], numbers: bool = True) -> None:
    """Draw points of passes and agreement on given axes.

    Parameters
    ----------
    axes, theme
        As of :class:`calibration.page.canvas.Picture`.
    points
        At least one; those of "ours" are joined by a line.
    numbers
        Whether to write each point's number beside it.

    """
    colours = {
        "full": theme.ink, "ours": theme.ours, "rival": theme.rival, "oracle": theme.gold
    }  # fmt: skip
    line = sorted((p.steps, 100 * p.agreement) for p in points if p.kind == "ours")
    if len(line) > 1:
        axes.plot(*zip(*line, strict=True), "-", color=theme.ours, linewidth=1)
    seen: set[str] = set()
    labels = []
    for number, point in enumerate(points, 1):
        name, marker, size = _LOOKS[point.kind]
        axes.plot(
            point.steps, 100 * point.agreement, marker, color=colours[point.kind],
            markersize=size, linestyle="none", label=None if point.kind in seen else name,
            zorder=4 if point.kind == "ours" else 3,
        )  # fmt: skip
        seen.add(point.kind)
        labels.append((point.steps, 100 * point.agreement, str(number), colours[point.kind]))
    axes.set_xlim(left=0, right=1.08 * max(p.steps for p in points))
    axes.margins(y=0.12)
    axes.set_xlabel("forward passes a request, mean")
    axes.set_ylabel("agrees with the full decode, %")
    legend_above(axes)
    axes.autoscale_view(scalex=False)
    if numbers:
        place_labels(axes, labels, line)


def _draw(axes: Any, theme: Theme, points: Sequence[Point], title: str) -> None:
    draw_points(axes, theme, points)
    names = [f"{number} {point.name}" for number, point in enumerate(points, 1)]
    rows = ["    ".join(names[start : start + 3]) for start in range(0, len(names), 3)]
    axes.set_xlabel(axes.get_xlabel() + "\n\n" + "\n".join(rows), fontsize=8)
    if title:
        axes.figure.suptitle(title, fontsize=10)
