"""``stopper simulate``: write simulated traces, to try calibration without a GPU."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Signal(StrEnum):
    """Labels that the simulated score sees."""

    correct = "correct"
    agrees = "agrees"


def simulate(
    out: Annotated[
        Path, typer.Option(help="File to write: .jsonl, or .parquet for millions.", metavar="FILE")
    ],
    traces: Annotated[int, typer.Option(help="Number of traces.", min=1)] = 500,
    cues: Annotated[float, typer.Option(help="Mean number of cues per trace, from 1 on.")] = 10.0,
    rollouts: Annotated[int, typer.Option(help="Traces per prompt.", min=1)] = 1,
    auroc: Annotated[float, typer.Option(help="How well the score sees the signal.")] = 0.94,
    signal: Annotated[
        Signal, typer.Option(help="What the score sees: is the answer right, or the final one.")
    ] = Signal.correct,
    trace_effect: Annotated[
        float, typer.Option(help="Share of the score's noise that is common to a trace.")
    ] = 0.3,
    prompt_effect: Annotated[
        float, typer.Option(help="Share of the score's noise that is common to a prompt.")
    ] = 0.0,
    autocorrelation: Annotated[
        float, typer.Option(help="Of the remaining noise between neighbouring cues.")
    ] = 0.5,
    flicker: Annotated[
        float, typer.Option(help="Probability that a settled answer is lost at a cue.")
    ] = 0.05,
    no_cues: Annotated[float, typer.Option(help="Share of traces without a cue.")] = 0.0,
    looks: Annotated[
        bool,
        typer.Option("--looks", help="Also draw repeats, confidence and length of forced answers."),
    ] = False,
    seed: Annotated[
        int, typer.Option(help="Fixes every draw; use different ones to calibrate and to test.")
    ] = 0,
) -> None:
    """Write simulated traces with scores and labels, in the form that --scores reads.

    Harder problems think longer; from a commit point on the final answer is held, right or wrong;
    scores are blurred by noise that neighbouring cues share. Nothing is fitted to a real model.
    """
    from collections.abc import Iterator

    from rich.console import Console
    from tqdm import tqdm

    from calibration.scores import write_tables
    from calibration.simulate import SimulatorSettings, simulate_tables
    from calibration.table import CueTable

    settings = SimulatorSettings(
        traces=traces,
        cues=cues,
        rollouts=rollouts,
        auroc=auroc,
        signal=signal.value,
        prompt_effect=prompt_effect,
        trace_effect=trace_effect,
        autocorrelation=autocorrelation,
        flicker=flicker,
        no_cues=no_cues,
        looks=looks,
        seed=seed,
    )
    n_cues = 0

    def drawn() -> Iterator[CueTable]:
        nonlocal n_cues
        with tqdm(total=traces, desc="simulating", unit="trace", delay=2, leave=False) as bar:
            for table in simulate_tables(settings):
                yield table
                n_cues += table.n_cues
                bar.update(len(table))

    write_tables(out, drawn())
    groups = -(-traces // rollouts)
    Console().print(
        f"Wrote {traces} traces of {groups} prompts with {n_cues} cues to {out}",
        soft_wrap=True,
        highlight=False,
    )
