"""``stopper upgrade``: rewrite an artifact of an older schema in the current one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def upgrade(artifact: Annotated[Path, typer.Argument(help="Artifact folder.")]) -> None:
    """Rewrite an artifact in the current schema, in place and all or nothing.

    Its promise stays the same: weights, scores, thresholds, dates and your own files in the folder
    are kept. What the old schema did not record stays unknown, and is listed with the commands
    that would make it known.
    """
    from stopper.artifact import Artifact
    from stopper.manifest import SCHEMA_VERSION
    from stopper.upgrading import upgrade as upgraded

    old = Artifact.load(artifact, allow_expired=True)
    version = old.manifest.schema_version
    if version == SCHEMA_VERSION:
        typer.echo(f"{artifact}: already of schema {version}, the current one; nothing to do.")
        return
    found = upgraded(old)
    found.artifact.save(artifact)
    typer.echo(f"{artifact}: schema {version} -> {SCHEMA_VERSION}")
    for phrase in found.added:
        typer.echo(f"  added    {phrase}")
    for phrase in found.unknown:
        typer.echo(f"  unknown  {phrase}")
    if found.unknown:
        typer.echo(
            "Calibrating again records what is unknown of calibration, training again the rest; "
            "both only write what is true of the traces they read."
        )
