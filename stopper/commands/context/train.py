"""``stopper context train``: fit the head of a sentence filter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stopper.commands.context._shared import Data, Encoder, Form, Format, Most, Seed


def train(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="Artifact folder to write.")],
    form: Format = Form.squad,
    encoder: Encoder = None,
    splitter: Annotated[str, typer.Option(help="Sentences by spacy or pysbd.")] = "spacy",
    train_fraction: Annotated[float, typer.Option(help="Share of articles to fit on.")] = 0.3,
    test_fraction: Annotated[
        float, typer.Option(help="Share of articles set aside for the evaluation.")
    ] = 0.2,
    seed: Seed = 0,
    most: Most = 5000,
) -> None:
    """Fit a head on some articles' questions and write an artifact, not yet calibrated.

    Articles are split by title, across all files. The encoder's body stays as it is.
    """
    # Imported here: `stopper --help` and the other commands need none of it.
    from rich.console import Console

    from calibration.questions import read_questions
    from probes.encoder_body import EncoderBody
    from stopper.artifact import check_target
    from stopper.cards import training_tables
    from stopper.errors import InputError
    from stopper.relevance.splitting import CALIBRATE, TEST, TRAIN
    from stopper.relevance.training import TrainingPlan
    from stopper.relevance.training import train as fit

    # Everything that can be refused is refused before the fit, which may take minutes.
    check_target(out)
    rest = 1 - train_fraction - test_fraction
    fractions = {TRAIN: train_fraction, CALIBRATE: rest, TEST: test_fraction}
    if not all(share > 1e-9 for share in fractions.values()):
        raise InputError(
            f"--train-fraction {train_fraction:g} and --test-fraction {test_fraction:g} must be "
            "above 0 and leave articles for the calibration"
        )
    questions = read_questions(data, form.value)
    plan = TrainingPlan(fractions, seed, most, splitter)
    artifact = fit(questions, data, EncoderBody(encoder), plan)
    artifact.save(out)
    console = Console()
    for table in training_tables(artifact.manifest):
        console.print(table)
    files = " ".join(f"--data {path}" for path in data)
    console.print(
        f"Wrote {out}. Next: stopper context calibrate {out} {files} --format {form.value}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
