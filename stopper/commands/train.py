"""``stopper train``: fit a probe on collected traces."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class ProbeKind(StrEnum):
    """Kinds of probe."""

    linear = "linear"
    mlp = "mlp"


class LabelName(StrEnum):
    """Labels of a cue."""

    agrees = "agrees"
    correct = "correct"


class Shaping(StrEnum):
    """Shapings of a trace's scores."""

    raw = "raw"
    rise = "rise"


def train(
    traces: Annotated[Path, typer.Argument(help="Trace store, a folder of `stopper collect`.")],
    out: Annotated[Path, typer.Option("--out", help="Artifact folder to write.")],
    probe: Annotated[ProbeKind, typer.Option(help="Kind of probe.")] = ProbeKind.linear,
    hidden_dims: Annotated[
        str, typer.Option(help="Widths inside an mlp.", metavar="N,N,...")
    ] = "256,64",
    label: Annotated[
        LabelName, typer.Option(help="What a good stop is: same answer as in full, or as gold.")
    ] = LabelName.agrees,
    layers: Annotated[
        str | None,
        typer.Option(help="Layers to read, such as 9,16,last. Default: all that were collected."),
    ] = None,
    shaping: Annotated[
        Shaping, typer.Option(help="Score itself, or score plus its rise within the trace.")
    ] = Shaping.rise,
    rise_weight: Annotated[float, typer.Option(help="Weight of the rise.")] = 0.5,
    train_fraction: Annotated[
        float, typer.Option(help="Share of prompts to fit on; what is left is for calibration.")
    ] = 0.5,
    select_fraction: Annotated[
        float, typer.Option(help="Share of prompts set aside for choosing between probes.")
    ] = 0.0,
    test_fraction: Annotated[
        float, typer.Option(help="Share of prompts set aside for the final evaluation.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Fixes every draw.", min=0)] = 0,
    max_cues: Annotated[
        int, typer.Option(help="Fit on at most this many cues, drawn evenly.", min=1)
    ] = 100_000,
    drop_leaked: Annotated[
        bool,
        typer.Option(
            "--drop-leaked",
            help="Leave out groups whose prompt another group brings into another split.",
        ),
    ] = False,
) -> None:
    """Fit a probe on the cues of collected traces and write an artifact, not yet calibrated."""
    # Imported here: `stopper --help` and the other commands need none of it.
    from rich.console import Console

    from calibration.traces import TraceDataset
    from probes.spec import ProbeSpec
    from probes.validation import parse
    from stopper import training
    from stopper.artifact import check_target
    from stopper.cards import training_tables

    # Everything that can be refused is refused before the fit, which may take minutes.
    check_target(out)
    fractions = training.complete_fractions(train_fraction, select_fraction, test_fraction)
    dataset = TraceDataset(traces)
    spec = parse(
        ProbeSpec,
        {
            "kind": probe.value,
            "layers": training.choose_layers(layers, dataset.meta),
            "hidden_size": dataset.meta.hidden_size,
            "hidden_dims": training.parse_widths(hidden_dims) if probe is ProbeKind.mlp else (),
            "shaping": shaping.value,
            "rise_weight": rise_weight,
        },
        "probe",
        "Mend the option of that name",
    )
    plan = training.TrainingPlan(label.value, fractions, seed, max_cues, drop_leaked)
    artifact, _, _ = training.train(dataset, spec, plan)
    artifact.save(out)
    console = Console()
    for table in training_tables(artifact.manifest):
        console.print(table)
    if artifact.cues is None:
        console.print(
            f"[yellow]{traces / training.CUES} is missing: this artifact can be evaluated, but not "
            "served.[/yellow]"
        )
    console.print(f"Wrote {out}. Next: stopper calibrate {out} --traces {traces}", soft_wrap=True)
