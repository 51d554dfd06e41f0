"""``stopper context calibrate``: find the threshold of a sentence filter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stopper.commands.context._shared import (
    Data,
    Encoder,
    Form,
    Format,
    Hard,
    Most,
    Promise,
    Random,
    Seed,
)


def calibrate(
    artifact: Annotated[Path, typer.Argument(help="Artifact of `stopper context train`.")],
    data: Data,
    form: Format = Form.squad,
    alpha: Annotated[
        float, typer.Option(help="Share of queries that may lose a sentence they need, in (0, 1).")
    ] = 0.05,
    method: Annotated[
        Promise, typer.Option(help="hcp: for new articles. ltt, crc: for queries on the same ones.")
    ] = Promise.hcp,
    confidence: Annotated[
        float, typer.Option(help="Of the promise over the calibration draw (ltt only).")
    ] = 0.9,
    hard: Hard = 2,
    random: Random = 2,
    encoder: Encoder = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write there.", show_default="ARTIFACT itself")
    ] = None,
    seed: Seed = 0,
    most: Most = 20_000,
) -> None:
    """Calibrate on articles that the head was not fitted to and that are not set aside for tests.

    At most alpha of the queries lose a sentence that holds (part of) an answer. Any other alpha is
    answered later from the scores that the artifact keeps.
    """
    # Imported here: `stopper --help` and the other commands need none of it.
    from rich.console import Console

    from calibration.mixing import Mix
    from calibration.questions import read_questions
    from probes.encoder_body import EncoderBody
    from stopper.artifact import Artifact, check_target
    from stopper.cards import calibration_table
    from stopper.commands._tables import note
    from stopper.relevance.calibrating import Terms
    from stopper.relevance.calibrating import calibrate as find

    target = artifact if out is None else out
    check_target(target)
    loaded = Artifact.load(artifact, allow_expired=True)
    questions = read_questions(data, form.value)
    terms = Terms(alpha, method.value, confidence, Mix(hard, random), seed, most)
    made, notes = find(loaded, questions, EncoderBody(encoder), terms, str(artifact))
    for remark in notes:
        note(remark)
    made.save(target)
    console = Console()
    table = calibration_table(made.manifest)
    if table is not None:
        console.print(table)
    files = " ".join(f"--data {path}" for path in data)
    console.print(
        f"Wrote {target}. Next: stopper context evaluate {target} {files} --format {form.value} "
        f"--alpha {alpha:g}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
