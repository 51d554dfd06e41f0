"""What all figures share: two themes, one size, PNG bytes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from probes.errors import UnsupportedError

#: Inches; small enough that its letters are still read at the width of a telephone.
WIDTH, HEIGHT, DPI = 4.7, 3.5, 180


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of one scheme; blue and vermilion stay apart for colour-blind eyes.

    Attributes
    ----------
    name
        "light" or "dark".
    surface, ink, muted, grid
        Background, text, secondary text, lines behind the data.
    good, bad, ours, rival, gold
        Good and bad stops, the artifact's rule, other rules, the oracle.
    """

    name: str
    surface: str
    ink: str
    muted: str
    grid: str
    good: str
    bad: str
    ours: str
    rival: str
    gold: str


LIGHT = Theme(
    name="light", surface="#ffffff", ink="#1b2430", muted="#566273", grid="#dfe4ea",
    good="#0b6fa4", bad="#c4461a", ours="#0b6fa4", rival="#7a4ea3", gold="#a67700",
)  # fmt: skip
DARK = Theme(
    name="dark", surface="#171d26", ink="#e8edf3", muted="#a3afbd", grid="#323b48",
    good="#5fb6ea", bad="#ff8f63", ours="#5fb6ea", rival="#c3a0ea", gold="#f0c24b",
)  # fmt: skip
THEMES = (LIGHT, DARK)


@dataclass(frozen=True)
class Numbers:
    """A table of text: what a figure shows, for those who cannot or will not see it.

    Attributes
    ----------
    columns
        Headings; the first column is text, the others are figures.
    rows
        As many cells as columns.
    strong
        Indices of the rows to set off.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Picture:
    """A figure ready to be drawn.

    Attributes
    ----------
    name
        Stem of its PNG.
    title
        Above it.
    caption
        How to read it.
    alt
        What it shows, in words.
    draw
        Draws on given axes in a theme.
    numbers
        The same as a table.
    height
        Inches.
    """

    name: str
    title: str
    caption: str
    alt: str
    draw: Callable[[Any, Theme], None]
    numbers: Numbers
    height: float = HEIGHT

    def png(self, theme: Theme) -> bytes:
        """Draw it.

        Raises
        ------
        UnsupportedError
            When matplotlib is not installed.
        """
        with _figure(theme, self.height) as (figure, axes):
            self.draw(axes, theme)
            file = io.BytesIO()
            with warnings.catch_warnings():
                # A category in a script that the font lacks shows as boxes; the table spells it.
                warnings.filterwarnings("ignore", message="Glyph .* missing from")
                figure.savefig(file, format="png")
            return file.getvalue()


@contextmanager
def _figure(theme: Theme, height: float) -> Iterator[tuple[Any, Any]]:
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UnsupportedError(
            "plots need matplotlib; install it with `pip install 'stopper[calibrate]'`."
        ) from None
    style = {
        "text.parse_math": False,  # names from an artifact are text, never formulas
        "font.size": 11,
        "axes.facecolor": theme.surface,
        "axes.edgecolor": theme.muted,
        "axes.labelcolor": theme.ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "text.color": theme.ink,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "xtick.labelcolor": theme.ink,
        "ytick.labelcolor": theme.ink,
        "grid.color": theme.grid,
        "grid.linewidth": 0.8,
        "legend.frameon": False,
        "legend.fontsize": 10,
        "hatch.linewidth": 0.8,
    }
    with mpl.rc_context(style):
        # A figure of its own: pyplot would choose a backend and keep global state.
        figure = Figure(
            figsize=(WIDTH, height), dpi=DPI, layout="constrained", facecolor=theme.surface
        )
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        axes.grid(True)
        yield figure, axes


def legend_above(axes: Any, columns: int = 2) -> None:
    """Put the legend above the axes, where it hides no data."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns,
        borderaxespad=0.2, handlelength=1.6, columnspacing=1.2,
    )  # fmt: skip
