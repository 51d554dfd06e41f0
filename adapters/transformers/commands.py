"""The `stopper diffusion` subcommands that run a model; found by the program by entry points."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_MODEL_HELP = "Folder of a LLaDA- or Dream-style checkpoint."
_PROMPTS_HELP = "JSONL, one prompt a line: {id, messages | prompt, group?, answer?, level?}."

Device = Annotated[str, typer.Option(help="cpu, cuda, ...; auto takes a GPU where there is one.")]
Dtype = Annotated[str | None, typer.Option(help="Default: the weights' own.")]
Batch = Annotated[int, typer.Option(help="Prompts in a forward pass.", min=1)]
Limit = Annotated[int | None, typer.Option(help="Take only the first N prompts.", min=1)]
ComparerName = Annotated[
    str, typer.Option(help="How answers are taken and compared: auto, math, text, exact, ...")
]


def collect(
    model: Annotated[str, typer.Argument(help=_MODEL_HELP)],
    prompts: Annotated[Path, typer.Option(help=_PROMPTS_HELP)],
    out: Annotated[Path, typer.Option(help="Folder of the store; resumes if it exists.")],
    limit: Limit = None,
    canvas: Annotated[int, typer.Option(help="Tokens to generate.", min=1)] = 128,
    block_length: Annotated[
        int | None, typer.Option(help="Decode in blocks of so many. Default: one block.", min=1)
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of a block. Default: one token a step.", min=1)
    ] = None,
    order: Annotated[
        str, typer.Option(help="What is filled in first: by confidence, entropy or margin.")
    ] = "confidence",
    progress: Annotated[
        str, typer.Option(help="What a schedule runs over: each block, or the whole canvas.")
    ] = "block",
    comparer: ComparerName = "auto",
    batch: Batch = 16,
    part: Annotated[int, typer.Option(help="Prompts written at a time.", min=1)] = 64,
    device: Device = "auto",
    dtype: Dtype = None,
) -> None:
    """Decode prompts to their end and record, at every step, what halting there would give.

    The same command again does what is missing.
    """
    from dataclasses import replace

    from tqdm import tqdm

    from adapters.transformers.loading import load_model, read_requests
    from adapters.transformers.recording import record, settings
    from adapters.transformers.sampler import Sampler
    from calibration.denoising_store import append_part, recorded
    from stopper.errors import InputError

    sampler = Sampler(canvas, block_length, steps, order, progress=progress)  # type: ignore[arg-type]
    loaded = load_model(model, device, dtype, comparer)
    requests = read_requests(prompts, loaded.tokenizer, limit)
    setting = {**settings(loaded.model, sampler), "comparer": comparer}
    before = recorded(out)
    if before is not None and dict(before.settings) != setting:
        differ = [name for name in setting if before.settings.get(name) != setting[name]]
        raise InputError(
            f"{out}: holds decodes of another setting ({', '.join(differ) or 'older'}); give "
            "another folder, or the options it was begun with"
        )
    known = set() if before is None else set(before.trace_ids)
    missing = [request for request in requests if request.name not in known]
    with tqdm(total=len(requests), initial=len(requests) - len(missing), unit="prompt") as bar:
        for start in range(0, len(missing), part):
            taken = missing[start : start + part]
            table = record(loaded.model, taken, sampler, loaded.judge, batch_size=batch)
            append_part(out, replace(table, settings=setting))
            bar.update(len(taken))
    typer.echo(
        f"{out}: {len(missing)} decodes added. Next: stopper diffusion calibrate {out} --out "
        "ARTIFACT"
    )


def compare(
    model: Annotated[str, typer.Argument(help=_MODEL_HELP)],
    prompts: Annotated[Path, typer.Option(help=_PROMPTS_HELP)],
    artifact: Annotated[
        Path, typer.Option(help="Artifact of `stopper diffusion calibrate`; gives the sampler.")
    ],
    alpha: Annotated[
        list[float] | None,
        typer.Option(help="Share that may be halted badly; repeatable. Default: as calibrated."),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Baseline; repeatable. Default: all of them."),
    ] = None,
    stretch: Annotated[
        float | None,
        typer.Option(help="Also run Prophet with its thresholds times this.", min=0.0),
    ] = None,
    limit: Limit = None,
    comparer: Annotated[
        str | None, typer.Option(help="How answers are compared. Default: as recorded.")
    ] = None,
    batch: Batch = 16,
    repeats: Annotated[int, typer.Option(help="Timed so often; the fastest counts.", min=1)] = 1,
    device: Device = "auto",
    dtype: Dtype = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures as JSON.", metavar="FILE")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw steps against agreement as PNG.", metavar="FILE")
    ] = None,
) -> None:
    """Decode held-out prompts in full, halted by the artifact, and by the published baselines.

    Passes, wall-clock, agreement with the full decode, accuracy and QPS (speed-up x (accuracy /
    full accuracy)^4) of each, all in one process.
    """
    import json

    from rich.console import Console

    from adapters.transformers.baselines import METHODS, named
    from adapters.transformers.comparison import compare as run
    from adapters.transformers.figures import (
        calibrated_methods,
        figures_table,
        points_of,
        sampler_of,
        stretched_prophet,
    )
    from adapters.transformers.loading import load_model, read_requests, require_unused
    from calibration.files import replacing
    from stopper.artifact import Artifact

    made = Artifact.load(artifact)
    methods = [*calibrated_methods(made, alpha), *named(method or list(METHODS))]
    if stretch is not None:
        methods.append(stretched_prophet(stretch))
    sampler = sampler_of(made)
    loaded = load_model(model, device, dtype, comparer or made.manifest.comparer or "auto", made)
    requests = read_requests(prompts, loaded.tokenizer, limit)
    require_unused(made, requests)
    console = Console()
    with Console(stderr=True).status(f"decoding {len(requests)} prompts, {len(methods)} ways"):
        found = run(
            loaded.model, requests, sampler, methods, loaded.judge,
            batch_size=batch, repeats=repeats,
        )  # fmt: skip
    console.print(figures_table(found, f"{len(requests)} held-out prompts, batch {batch}"))
    if json_file is not None:
        report = {
            "n_test": len(requests),
            "batch": batch,
            "rows": [row.to_json() | {"steps": row.steps / row.n} for row in found],
        }
        with replacing(json_file) as file:
            file.write((json.dumps(report, indent=2, allow_nan=False) + "\n").encode())
        console.print(f"Wrote {json_file}", soft_wrap=True, highlight=False)
    if plot is not None:
        from calibration.halting_plot import plot_points

        plot_points(points_of(found), plot, f"{len(requests)} held-out prompts")
        console.print(f"Wrote {plot}", soft_wrap=True, highlight=False)
