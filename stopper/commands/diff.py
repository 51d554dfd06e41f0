"""``stopper diff``: what differs between two artifacts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="Artifact folder.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Artifact folder.")],
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the differences as JSON.", metavar="FILE")
    ] = None,
) -> None:
    """Compare two artifacts field by field and say whether B may replace A.

    Exits with 0 if they are the same but for the time of creation, with 1 if they differ, with 2
    if one cannot be read. B may replace A under running traffic if model, cues and closing are the
    same and B can be served.
    """
    import json
    from datetime import UTC, datetime

    from rich.console import Console

    from calibration.files import replacing
    from stopper.artifact import Artifact, expiry
    from stopper.commands._life import difference_table, replacement
    from stopper.commands._tables import note
    from stopper.comparison import compare

    pair = [Artifact.load(folder, allow_expired=True) for folder in (first, second)]
    now = datetime.now(UTC)
    for folder, made in zip((first, second), pair, strict=True):
        if made.manifest.expired(now):
            note(f"WARNING: {folder} {expiry(made.manifest, folder)}")
    found = compare(pair[0], pair[1], now)
    console = Console()
    if found.differences:
        console.print(difference_table(found.differences))
    else:
        typer.echo("The same, but for the time of creation.")
    for line in replacement(found, first, second):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if json_file is not None:
        with replacing(json_file) as file:
            file.write((json.dumps(found.to_json(), indent=2, allow_nan=False) + "\n").encode())
        typer.echo(f"Wrote {json_file}")
    if found.differences:
        raise typer.Exit(1)
