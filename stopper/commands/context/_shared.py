"""Options that the subcommands share: one name, one help."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer


class Form(StrEnum):
    """Formats of questions."""

    squad = "squad"
    hotpotqa = "hotpotqa"


class Promise(StrEnum):
    """Methods of calibration."""

    ltt = "ltt"
    crc = "crc"
    hcp = "hcp"


Data: TypeAlias = Annotated[
    list[Path],
    typer.Option("--data", help="Questions with answers, JSON; repeatable.", metavar="FILE"),
]
Format: TypeAlias = Annotated[Form, typer.Option("--format", help="Format of the data.")]
Encoder: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Folder of the encoder's body.", show_default="the installed MiniLM"),
]
Hard: TypeAlias = Annotated[
    int, typer.Option(help="Distractors from the same article.", min=0, max=1000)
]
Random: TypeAlias = Annotated[
    int, typer.Option(help="Distractors from other articles.", min=0, max=1000)
]
Seed: TypeAlias = Annotated[int, typer.Option(help="Fixes every draw.", min=0)]
Most: TypeAlias = Annotated[int, typer.Option(help="Questions to use at most.", min=1)]
