"""Options that the diffusion commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

ArtifactFolder: TypeAlias = Annotated[
    Path, typer.Argument(help="Artifact of `stopper diffusion calibrate`.")
]
Decodes: TypeAlias = Annotated[
    Path,
    typer.Option(
        help="Store of held-out decodes of `stopper diffusion collect`.", metavar="FOLDER"
    ),
]
Alphas: TypeAlias = Annotated[
    list[float] | None,
    typer.Option(
        help="Share that may be halted badly; repeatable, the first is the headline's. Default: "
        "as calibrated."
    ),
]
HaltingFigures: TypeAlias = Annotated[
    Path | None, typer.Option("--json", help="Write the figures as JSON.", metavar="FILE")
]
