"""``stopper diffusion calibrate``: recorded decodes become a halting rule with a promise."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stopper.commands._options import Alpha, Confidence, FiguresFile


class Method(StrEnum):
    """Methods of calibration."""

    ltt = "ltt"
    crc = "crc"
    mapie = "mapie"


class Correction(StrEnum):
    """Corrections for the number of candidates."""

    split_fixed_sequence = "split_fixed_sequence"
    bonferroni_holm = "bonferroni_holm"


def calibrate(
    traces: Annotated[
        Path,
        typer.Argument(help="Store of `stopper diffusion collect` to find the level on."),
    ],
    out: Annotated[Path, typer.Option(help="Artifact folder to write.")],
    select: Annotated[
        Path | None,
        typer.Option(help="Store to choose the shape on. Default: a share of TRACES by group."),
    ] = None,
    select_fraction: Annotated[
        float, typer.Option(help="That share, without --select.", min=0.01, max=0.99)
    ] = 0.3,
    alpha: Alpha = 0.05,
    confidence: Confidence = 0.9,
    method: Annotated[
        Method,
        typer.Option(
            help="ltt: holds with the confidence. crc: holds on average. mapie: shape and level "
            "tested together under a correction, for this alpha alone."
        ),
    ] = Method.ltt,
    correction: Annotated[
        Correction, typer.Option(help="Of mapie, for the number of candidates.")
    ] = Correction.split_fixed_sequence,
    valid_days: Annotated[
        float | None, typer.Option(help="Let the artifact expire after so many days.", min=0.001)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the share for the shape.")] = 0,
    json_file: FiguresFile = None,
) -> None:
    """Choose a halting rule and find the level that keeps alpha, and write both as an artifact.

    The shape (schedule, signal, gate) is chosen on prompts of its own by the passes it is expected
    to take; the level is found on others. Refuses, and says how many are missing, where there are
    too few prompts for the promise. ltt and crc answer any other alpha later as well.
    """
    # Imported here: `stopper --help` and the other commands need none of it.
    import json

    from rich.console import Console
    from rich.markup import escape

    from calibration.denoising_store import load_store
    from calibration.files import replacing
    from stopper.artifact import check_target
    from stopper.commands._tables import note
    from stopper.commands.diffusion._cards import calibration_tables
    from stopper.denoising_calibration import Terms, calibrate_halting, share_out, to_artifact

    check_target(out)
    terms = Terms(alpha, method.value, confidence, correction.value)
    table = load_store(traces)
    if select is None:
        chosen, rest = share_out(table, select_fraction, seed)
        note(
            f"the shape is chosen on {len(set(chosen.groups))} prompts of {traces}, the level "
            f"found on the other {len(set(rest.groups))}"
        )
    else:
        chosen, rest = load_store(select), table
    console = Console()
    with Console(stderr=True).status("choosing a shape"):
        found = calibrate_halting(chosen, rest, terms)
    made = to_artifact(found, chosen, rest, valid_days)
    made.save(out)
    for shown in calibration_tables(found):
        console.print(shown)
    console.print(escape(found.promise), soft_wrap=True)
    if json_file is not None:
        with replacing(json_file) as file:
            text = json.dumps(found.to_json(), indent=2, allow_nan=False)
            file.write((text + "\n").encode())
        console.print(f"Wrote {json_file}", soft_wrap=True, highlight=False)
    console.print(
        escape(f"Wrote {out}. Next: stopper diffusion evaluate {out} --traces TEST"),
        soft_wrap=True,
        highlight=False,
    )
