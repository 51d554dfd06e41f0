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
    out: Annotated[Path, typer.Option(help="JSON Lines file to write.", metavar="FILE")],
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
    seed: Annotated[
        int, typer.Option(help="Fixes every draw; use different ones to calibrate and to test.")
    ] = 0,
) -> None:
    """Write simulated traces with scores and labels, in the form that --scores reads.

    Harder problems think longer; from a commit point on the final answer is held, right or wrong;
    scores are blurred by noise that neighbouring cues share. Nothing is fitted to a real model.
    """
    from rich.console import Console

    from calibration.scores import write_scores
    from calibration.simulate import SimulatorSettings
    from calibration.simulate import simulate as draw

    table = draw(
        SimulatorSettings(
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
            seed=seed,
        )
    )
    write_scores(out, table)
    groups = len(set(table.groups))
    Console().print(
        f"Wrote {len(table)} traces of {groups} prompts with {table.n_cues} cues to {out}",
        soft_wrap=True,
        highlight=False,
    )
