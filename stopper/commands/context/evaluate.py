"""``stopper context evaluate``: judge a sentence filter on held-out articles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stopper.commands._options import FiguresFile
from stopper.commands.context._shared import Data, Encoder, Form, Format, Hard, Most, Random, Seed


def evaluate(
    artifact: Annotated[
        Path | None,
        typer.Argument(help="Calibrated artifact.", show_default="the one of the package"),
    ] = None,
    data: Data = [],  # noqa: B006 - typer copies it
    form: Format = Form.squad,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="Share of queries that may lose a needed sentence.", show_default="as calibrated"
        ),
    ] = None,
    hard: Hard = 2,
    random: Random = 2,
    repeats: Annotated[
        int, typer.Option(help="Recalibrate on so many random halves as well.", min=0, max=10_000)
    ] = 0,
    json_file: FiguresFile = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw recall over tokens kept, and risk over alpha, as PNG.", metavar="FILE"
        ),
    ] = None,
    include_used: Annotated[
        bool,
        typer.Option(
            "--include-used",
            help="Evaluate also on articles that made the artifact (too good to be true).",
        ),
    ] = False,
    encoder: Encoder = None,
    seed: Seed = 1,
    most: Most = 20_000,
) -> None:
    """Mix held-out paragraphs with distractors, drop sentences, and count what was lost.

    Questions on articles that the artifact was made of are set aside. Tokens are the encoder's.
    """
    # Imported here: `stopper --help` and the other commands need none of it.
    import json

    from rich.console import Console

    from calibration.files import replacing
    from calibration.mixing import Mix
    from calibration.questions import read_questions
    from probes.encoder_body import EncoderBody
    from stopper.artifact import Artifact
    from stopper.commands._tables import note
    from stopper.commands.context._figures import judgement_table, repeats_table
    from stopper.errors import InputError
    from stopper.relevance import DEFAULT
    from stopper.relevance.evaluating import evaluate as judge

    if not data:
        raise InputError("evaluation needs --data FILE, questions with answers")
    folder = DEFAULT if artifact is None else artifact
    loaded = Artifact.load(folder)
    record = loaded.manifest.calibration
    asked = alpha if alpha is not None else record.alpha if record is not None else 0.05
    questions = read_questions(data, form.value)
    found = judge(
        loaded,
        questions,
        EncoderBody(encoder),
        asked,
        Mix(hard, random),
        source=str(folder),
        seed=seed,
        repeats=repeats,
        include_used=include_used,
        most=most,
    )
    for name, count in found.met.items():
        if include_used:
            note(f"WARNING: {count} questions are of the split '{name}': too good to be true")
        else:
            note(f"set aside {count} questions on articles of the artifact's split '{name}'")
    console = Console()
    console.print(judgement_table(found))
    if found.repeats:
        console.print(repeats_table(found))
    if json_file is not None:
        with replacing(json_file) as file:
            text = json.dumps(found.to_json(), indent=2, allow_nan=False)
            file.write((text + "\n").encode())
        console.print(f"Wrote {json_file}", soft_wrap=True, highlight=False)
    if plot is not None:
        from stopper.relevance.picture import draw

        draw(found, plot)
        console.print(f"Wrote {plot}", soft_wrap=True, highlight=False)
