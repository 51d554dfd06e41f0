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
    gru = "gru"


class Objective(StrEnum):
    """What a probe is fitted to."""

    cues = "cues"
    first_exit = "first-exit"


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
    probe: Annotated[
        ProbeKind | None,
        typer.Option(
            help="Kind of probe. A gru remembers earlier cues; engines cannot serve it yet.",
            show_default="linear",
        ),
    ] = None,
    hidden_dims: Annotated[
        str | None,
        typer.Option(
            help="Widths inside an mlp; width of a gru's memory.",
            metavar="N,N,...",
            show_default="256,64 for an mlp, 16 for a gru",
        ),
    ] = None,
    objective: Annotated[
        Objective | None,
        typer.Option(
            help="Fit to each cue's label, or to what a trace's first exit costs.",
            show_default="cues",
        ),
    ] = None,
    bad_weight: Annotated[
        float | None,
        typer.Option(
            help="First-exit: price of a bad stop, in full traces' worth of tokens.",
            show_default="10",
        ),
    ] = None,
    label: Annotated[
        LabelName, typer.Option(help="What a good stop is: same answer as in full, or as gold.")
    ] = LabelName.agrees,
    layers: Annotated[
        str | None,
        typer.Option(help="Layers to read, such as 9,16,last. Default: all that were collected."),
    ] = None,
    shaping: Annotated[
        Shaping | None,
        typer.Option(
            help="Score itself, or score plus its rise within the trace.", show_default="rise"
        ),
    ] = None,
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
    choose: Annotated[
        bool,
        typer.Option(
            "--choose",
            help="Fit several probes and keep the one that saves most on the select split.",
        ),
    ] = False,
    candidates: Annotated[
        str | None,
        typer.Option(
            help="Choose among linear, mlp, gru, first-exit; each with all layers and the last, "
            "raw and rising.",
            metavar="NAME,...",
            show_default="linear,mlp,first-exit",
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="Choose at this share of bad stops.", show_default="0.05"),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(help="Choose at this confidence.", show_default="0.9"),
    ] = None,
) -> None:
    """Fit a probe on the cues of collected traces and write an artifact, not yet calibrated."""
    # Imported here: `stopper --help` and the other commands need none of it.
    from rich.console import Console

    from calibration.risk import DEFAULT_CONFIDENCE
    from calibration.traces import TraceDataset
    from probes.first_exit import BAD_WEIGHT
    from stopper import choosing, train_options, training
    from stopper.artifact import check_target
    from stopper.cards import training_tables
    from stopper.fitting import method_of

    chosen_by_hand = {
        "--probe": probe, "--hidden-dims": hidden_dims, "--objective": objective,
        "--shaping": shaping,
    }  # fmt: skip
    only_choosing = {"--candidates": candidates, "--alpha": alpha, "--confidence": confidence}
    if choose:
        train_options.refuse_options(chosen_by_hand, "is what --choose settles by itself")
    else:
        train_options.refuse_options(only_choosing, "belongs to --choose, which is not given")
    # Everything that can be refused is refused before the fit, which may take minutes.
    check_target(out)
    fractions = train_options.complete_fractions(train_fraction, select_fraction, test_fraction)
    dataset = TraceDataset(traces)
    chosen = train_options.choose_layers(layers, dataset.meta)
    plan = training.TrainingPlan(label.value, fractions, seed, max_cues, drop_leaked)
    if choose:
        names = choosing.parse_candidates(candidates or ",".join(choosing.DEFAULT_CANDIDATES))
        if "first-exit" not in names:
            train_options.refuse_options(
                {"--bad-weight": bad_weight}, "belongs to candidate first-exit"
            )
        comparison = choosing.Plan(
            names,
            0.05 if alpha is None else alpha,
            DEFAULT_CONFIDENCE if confidence is None else confidence,
            seed,
        )
        artifact, _ = training.train_best(
            dataset,
            choosing.methods(
                names, chosen, dataset.meta, rise_weight,
                BAD_WEIGHT if bad_weight is None else bad_weight,
            ),
            plan,
            comparison,
        )  # fmt: skip
    else:
        method = method_of(
            probe.value if probe else "linear",
            chosen,
            dataset.meta.hidden_size,
            widths=None if hidden_dims is None else train_options.parse_widths(hidden_dims),
            shaping=shaping.value if shaping else "rise",
            rise_weight=rise_weight,
            objective=objective.value if objective else "cues",
            bad_weight=bad_weight,
        )
        artifact, _, _ = training.train(dataset, method, plan)
    artifact.save(out)
    console = Console()
    for table in training_tables(artifact.manifest):
        console.print(table)
    if artifact.cues is None:
        console.print(
            f"[yellow]{traces / training.CUES} is missing: this artifact can be evaluated, but not "
            "served.[/yellow]"
        )
    if artifact.manifest.probe is not None and artifact.manifest.probe.kind == "gru":
        console.print(
            "[yellow]A gru can be calibrated and evaluated, but no engine serves it yet.[/yellow]"
        )
    console.print(f"Wrote {out}. Next: stopper calibrate {out} --traces {traces}", soft_wrap=True)
