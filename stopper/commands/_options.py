"""Options that several commands share: one name, one help."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer


class LossName(StrEnum):
    """Losses of a stop."""

    disagree = "disagree"
    wrong = "wrong"
    harm = "harm"


class Rollouts(StrEnum):
    """Ways to count several traces of one group."""

    one = "one"
    worst = "worst"


Scores: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Your own scores: JSON Lines, or Parquet (or a folder).", metavar="FILE"),
]
Traces: TypeAlias = Annotated[
    Path | None, typer.Option(help="Trace store of `stopper collect`; used groups are set aside.")
]
Alpha: TypeAlias = Annotated[
    float, typer.Option(help="Share of requests that may be stopped badly, in (0, 1).")
]
Confidence: TypeAlias = Annotated[
    float, typer.Option(help="Of the promise over the calibration draw (ltt only).")
]
RolloutsOption: TypeAlias = Annotated[
    Rollouts, typer.Option(help="Several traces of a group count once: one drawn, or the worst.")
]
DropLeaked: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--drop-leaked",
        help="Leave out groups whose prompt an artifact used under another group's name.",
    ),
]
FiguresFile: TypeAlias = Annotated[
    Path | None, typer.Option("--json", help="Write the figures as JSON.", metavar="FILE")
]
