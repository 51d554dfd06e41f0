"""Short labels beside points, so that none overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def place_labels(
    axes: Any, labels: Sequence[tuple[float, float, str, str]], busy: Sequence[tuple[float, float]]
) -> None:
    """Write short labels beside points so that none overlap; call after the limits are set.

    Points too close to be told apart share one label, "2, 5".

    Parameters
    ----------
    axes
        Where.
    labels
        (x, y, text, colour) in data coordinates.
    busy
        Further points to keep clear of.
    """
    axes.figure.draw_without_rendering()  # lays the axes out, so that their size is known
    box = axes.get_window_extent()
    scale = 72 / axes.figure.dpi  # pixels to points, in which offsets are measured
    width, height = box.width * scale, box.height * scale

    def where(x: float, y: float) -> tuple[float, float]:
        across, up = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))
        return across * width, up * height

    taken = [where(x, y) for x, y in [*busy, *((x, y) for x, y, *_ in labels)]]
    for members in _clusters([where(x, y) for x, y, *_ in labels]):
        x, y, _, colour = labels[members[0]]
        text = ", ".join(labels[i][2] for i in members)
        across, up = where(x, y)
        half = 2.9 * len(text)  # of the text's width, at this size of letters

        crowd = _Crowd((across, up), half, (width, height), tuple(taken))
        offsets = [
            ((radius + half) * math.cos(turn), radius * math.sin(turn))
            for radius in (10, 14, 20, 28)
            for turn in (math.pi / 8 * step for step in range(16))
        ]
        best = min(offsets, key=crowd.of)
        taken += [(across + best[0] + part * half, up + best[1]) for part in (-1, -0.5, 0, 0.5, 1)]
        axes.annotate(
            text, (x, y), xytext=best, textcoords="offset points", ha="center", va="center",
            fontsize=9.5, color=colour, annotation_clip=False,
        ).set_in_layout(False)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Crowd:
    """How bad a place for a label is; all lengths in points.

    Attributes
    ----------
    point
        That the label belongs to.
    half
        Half the label's width.
    size
        Of the axes.
    taken
        Places of points and of labels written before.
    """

    point: tuple[float, float]
    half: float
    size: tuple[float, float]
    taken: tuple[tuple[float, float], ...]

    def of(self, offset: tuple[float, float]) -> float:
        across, up = self.point[0] + offset[0], self.point[1] + offset[1]
        outside = not (self.half < across < self.size[0] - self.half and 4 < up < self.size[1] - 4)
        near = sum(
            math.exp(-((max(0.0, abs(x - across) - self.half) / 6) ** 2) - ((y - up) / 7) ** 2)
            for x, y in self.taken
        )
        return near + 4 * outside + 0.06 * math.hypot(*offset)


def _clusters(spots: Sequence[tuple[float, float]], radius: float = 8.0) -> list[list[int]]:
    """Join points nearer than `radius` to a cluster's first member."""
    found: list[list[int]] = []
    for index, spot in enumerate(spots):
        near = next((c for c in found if math.dist(spots[c[0]], spot) < radius), None)
        if near is None:
            found.append([index])
        else:
            near.append(index)
    return found
