"""`stopper baselines`: every rule, run online through vLLM on the same prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer


def baselines(
    model: Annotated[
        str | None, typer.Option(help="Default: the tiny reasoner of this checkout.")
    ] = None,
    artifact: Annotated[
        Path | None, typer.Option(help="Calibrated artifact of that model.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="JSONL of held-out prompts, best with answers.")
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="Share that may be stopped badly. Default: as calibrated."),
    ] = None,
    limit: Annotated[int, typer.Option(help="Number of prompts.", min=1)] = 400,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            help="Run only this rule beside ours; repeatable. Parameters: deer:confidence=0.99.",
            metavar="NAME[:KEY=VALUE,...]",
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures as JSON.", metavar="FILE")
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(help="Write one JSON line per rule and prompt.", metavar="FILE"),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw tokens against accuracy and risk as PNG.", metavar="FILE"),
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Longest full output.", min=1)] = 400,
    concurrency: Annotated[
        int, typer.Option(help="Prompts at a time; trials come on top.", min=1)
    ] = 16,
    dtype: Annotated[
        str, typer.Option(help="As served: a promise holds for one dtype.")
    ] = "float32",
    enforce_eager: Annotated[bool, typer.Option(help="Do not compile the model.")] = False,
    seed: Annotated[int, typer.Option(help="Fixes every request's noise.")] = 1,
) -> None:
    """Run stopper and its published rivals online with real vLLM, and count every token.

    Rules: full, stopper, budget, no-thinking, lynx, deer, dynasor, eat, thinkbrake, nowait, oracle.
    All see the same prompts and seeds; trial answers, tokens that overran a stop and prompts
    computed again are counted. The engine runs in this process.
    """
    import json
    import sys

    from rich.console import Console
    from tqdm import tqdm

    from adapters.vllm.baselines.choice import chosen
    from adapters.vllm.baselines.comparison import compare
    from adapters.vllm.baselines.plot import plot_rules
    from adapters.vllm.baselines.table import cost_table, parameters_table, risk_table
    from adapters.vllm.collect import generation_defaults
    from adapters.vllm.engine import EngineOptions
    from adapters.vllm.generation import Sampling
    from adapters.vllm.prompts import read_prompts
    from calibration.files import replacing
    from stopper.errors import InputError

    chosen(rule)  # refuses an unknown name before anything is loaded
    home = Path(__file__).resolve().parents[3] / "examples" / "tiny_reasoner"
    if None in (model, artifact, prompts) and not home.is_dir():
        raise InputError(
            "the tiny reasoner is part of stopper's source checkout, not of the installed package; "
            "run this in a checkout, or give --model, --artifact and --prompts"
        )
    model = model or str(home / "model")
    asked = read_prompts(prompts or home / "problems" / "test.jsonl", limit)
    own = generation_defaults(model)

    def progress(title: str) -> Callable[[], None]:
        bar = tqdm(total=len(asked), desc=title, unit="prompt", file=sys.stderr, leave=False)

        def step() -> None:
            bar.update()
            if bar.n == bar.total:
                bar.close()

        return step

    found = compare(
        EngineOptions(
            model=model, dtype=dtype, max_num_seqs=4 * concurrency, enforce_eager=enforce_eager
        ),
        artifact or home / "artifact",
        alpha,
        asked,
        Sampling(
            own.get("temperature", 1.0), own.get("top_p", 1.0), own.get("top_k", 0), max_tokens,
            seed,
        ),
        concurrency,
        rule,
        progress,
    )  # fmt: skip
    console = Console()
    console.print(risk_table(found))
    console.print(cost_table(found))
    console.print(parameters_table(found))
    if json_file is not None:
        with replacing(json_file) as file:
            file.write((json.dumps(found.to_json(), indent=2, allow_nan=False) + "\n").encode())
        console.print(f"Wrote {json_file}", soft_wrap=True, highlight=False)
    if records is not None:
        with replacing(records) as file:
            for record in found.records:
                file.write((json.dumps(record, allow_nan=False) + "\n").encode())
        console.print(f"Wrote {records}", soft_wrap=True, highlight=False)
    if plot is not None:
        known_as = "/".join(Path(model).parts[-2:])
        plot_rules(found, plot, f"{known_as}: {len(asked)} held-out prompts")
        console.print(f"Wrote {plot}", soft_wrap=True, highlight=False)
