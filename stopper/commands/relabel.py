"""``stopper relabel``: label a trace store again under another comparer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stopper.commands._options import FiguresFile


def relabel(
    store: Annotated[Path, typer.Argument(help="Trace store of `stopper collect`.")],
    comparer: Annotated[
        str,
        typer.Option(help="auto, math, choice, text, number, exact, or an installed one's name."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new store; the old one stays.")],
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="Folder of tokenizer.json. Default: the store's model.", metavar="FOLDER"
        ),
    ] = None,
    json_file: FiguresFile = None,
) -> None:
    """Take answers out of stored outputs and compare them in another way; needs no GPU.

    An artifact trained or calibrated on the old labels does not follow: train and calibrate again.
    """
    # Imported here: `stopper --help` and the other commands need none of it.
    import json

    from calibration.files import replacing
    from stopper.commands._tables import note
    from stopper.relabelling import relabel as run

    found = run(store, comparer, out, tokenizer)
    for remark in found.notes:
        note(remark)
    changed = found.changed
    typer.echo(
        f"{found.traces} traces, {found.cues} cues. Outputs with an answer: {found.answered} "
        f"(before: {found.answered_before}). Labels that changed: {changed['agrees']} agrees, "
        f"{changed['correct']} correct, {changed['full_correct']} full_correct."
    )
    if json_file is not None:
        with replacing(json_file) as file:
            file.write((json.dumps(found.to_json(), indent=2) + "\n").encode())
    typer.echo(f"Wrote {out}. Next: stopper train {out} --out ARTIFACT")
