"""The `stopper` subcommands that need vLLM; found by the program through entry points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from adapters.vllm.shards import Shard

_MODEL_HELP = "Model folder or hub id, as for `vllm serve`."
_DTYPE_HELP = "As served: a promise holds for one dtype."


def collect(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help=_MODEL_HELP)],
    prompts: Annotated[
        Path,
        typer.Option(
            help="JSONL, one prompt a line: {id, messages | prompt, group?, answer?, level?}; or a "
            "data set (folder, Parquet, Arrow, JSON, CSV); or a server's log of requests."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the trace store; resumes if it exists.")],
    limit: Annotated[int | None, typer.Option(help="Take only the first N prompts.")] = None,
    prompts_as: Annotated[
        str, typer.Option(help="How to read --prompts: auto, prompts, dataset or requests.")
    ] = "auto",
    prompt_column: Annotated[
        str | None, typer.Option(help="Data set: column of the questions. Default: by its name.")
    ] = None,
    answer_column: Annotated[
        str | None, typer.Option(help="Data set: column of the answers. Default: by its name.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Data set: which split.")] = None,
    requests_model: Annotated[
        str | None, typer.Option(help="Log: only requests to this model. Default: MODEL.")
    ] = None,
    repeated: Annotated[
        str, typer.Option(help="Log: prompts that occur again: once, or rollouts of one group.")
    ] = "once",
    rollouts: Annotated[int, typer.Option(help="Traces per prompt.", min=1)] = 1,
    layers: Annotated[
        str | None,
        typer.Option(help="Hidden layers, such as 9,16,last; chosen by depth if left out."),
    ] = None,
    cue: Annotated[
        list[str] | None, typer.Option(help="Cue word; repeatable. Default: LYNX's three.")
    ] = None,
    every: Annotated[int | None, typer.Option(help="Also a cue at every N-th token.")] = None,
    paragraph: Annotated[bool, typer.Option(help="Also a cue at each paragraph's end.")] = False,
    think_start: Annotated[str, typer.Option(help="Text that opens the thinking.")] = "<think>",
    think_end: Annotated[str, typer.Option(help="Text that closes the thinking.")] = "</think>",
    answer_prompt: Annotated[
        str, typer.Option(help="Forced after the closing; '' lets the model answer by itself.")
    ] = "\n\nFinal Answer: \\boxed{",
    max_answer_tokens: Annotated[int, typer.Option(help="Longest forced answer.", min=1)] = 64,
    max_tokens: Annotated[int, typer.Option(help="Longest full output.", min=1)] = 12_000,
    temperature: Annotated[float | None, typer.Option(help="Default: the model's own.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Default: the model's own.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Default: the model's own.")] = None,
    seed: Annotated[int, typer.Option(help="Fixes every request's noise.")] = 0,
    batch: Annotated[int, typer.Option(help="Traces written at a time.", min=1)] = 64,
    comparer: Annotated[
        str,
        typer.Option(
            help="How answers are taken and compared: auto, math, choice, text, number, exact, or "
            "an installed one's name."
        ),
    ] = "auto",
    dtype: Annotated[str, typer.Option(help=_DTYPE_HELP)] = "auto",
    max_model_len: Annotated[int | None, typer.Option(help="Longest sequence.")] = None,
    max_num_seqs: Annotated[int, typer.Option(help="Requests at a time.", min=1)] = 64,
    tensor_parallel_size: Annotated[int, typer.Option(help="GPUs per model.", min=1)] = 1,
    enforce_eager: Annotated[bool, typer.Option(help="Do not compile the model.")] = False,
    data_parallel_size: Annotated[
        int, typer.Option(help="Workers, each with a model of its own, over all nodes.", min=1)
    ] = 1,
    nodes: Annotated[int, typer.Option(help="Machines that share the workers.", min=1)] = 1,
    node_rank: Annotated[int, typer.Option(help="Which of them this is, from 0.", min=0)] = 0,
    shard: Annotated[
        str | None,
        typer.Option(help="Be worker I of N, as I/N from 0/N on; for schedulers of jobs."),
    ] = None,
) -> None:
    """Generate full traces and record, at every cue, the hidden state and the forced answer.

    With several workers each takes the prompts whose ids hash to it and writes a store of its own
    in the folder --out, which is read as one. The same command again does what is missing.
    """
    from adapters.vllm.collect import Job, Markers, defaults_left_out, generation_defaults
    from adapters.vllm.collect import collect as run
    from adapters.vllm.engine import EngineOptions
    from adapters.vllm.generation import Sampling
    from adapters.vllm.prompt_sources import PromptSource, read_source
    from adapters.vllm.shards import Shard
    from adapters.vllm.workers import local_shards
    from calibration.comparers import get_comparer

    share = None if shard is None else Shard.parse(shard)
    shares = local_shards(data_parallel_size, nodes, node_rank, share)
    get_comparer(comparer)  # refuses an unknown name before anything is read
    source = PromptSource(prompts_as, prompt_column, answer_column, split, requests_model, repeated)
    found = read_source(prompts, source, limit, model)
    for remark in found.notes:
        typer.echo(remark, err=True)
    asked = found.prompts
    left_out = defaults_left_out(model)
    if left_out is not None and share is None:  # a worker's would be told by each
        typer.echo(left_out, err=True)
    if shares:
        _collect_in_workers(context, shares, out, [prompt.id for prompt in asked])
        return
    own = generation_defaults(model)
    job = Job(
        engine=EngineOptions(
            model=model,
            dtype=dtype,
            max_model_len=max_model_len,
            max_num_seqs=max_num_seqs,
            tensor_parallel_size=tensor_parallel_size,
            enforce_eager=enforce_eager,
        ),
        sampling=Sampling(
            temperature=own.get("temperature", 1.0) if temperature is None else temperature,
            top_p=own.get("top_p", 1.0) if top_p is None else top_p,
            top_k=own.get("top_k", 0) if top_k is None else top_k,
            max_tokens=max_tokens,
            seed=seed,
        ),
        markers=Markers(think_start, think_end, answer_prompt, max_answer_tokens),
        words=tuple(cue) if cue else ("hmm", "wait", "alternatively"),
        interval=every,
        paragraph=paragraph,
        layers=layers,
        rollouts=rollouts,
        batch=batch,
        comparer=comparer,
    )
    added = run(job, asked, out, share)
    if share is None:
        _tell_of_answers(out, comparer)
    typer.echo(f"{out}: {added} traces added. Next: stopper train {out} --out ARTIFACT")


def _collect_in_workers(
    context: typer.Context, shares: Sequence[Shard], out: Path, prompt_ids: Sequence[str]
) -> None:
    """Run this very command again in one worker a share, and say how each ended."""
    import shlex
    import sys

    from adapters.vllm.placement import local_slices
    from adapters.vllm.shards import count_missing
    from adapters.vllm.workers import Worker, arguments_of, watch

    kept = arguments_of(context, "data_parallel_size", "nodes", "node_rank", "shard")
    slices = local_slices(len(shares), context.params["tensor_parallel_size"])
    workers = [
        Worker(
            shard,
            [sys.executable, "-m", "stopper", "collect", *kept, f"--shard={shard}"],
            environment,
            shard.folder(out),
        )
        for shard, environment in zip(shares, slices, strict=True)
    ]
    rollouts = context.params["rollouts"]
    failed = watch(workers, count_missing(out, shares, prompt_ids, rollouts))
    if failed:
        typer.echo(
            f"stopper: error: {len(failed)} of {len(workers)} workers failed; what they had "
            "written is kept. Run the same command again, or each alone:",
            err=True,
        )
        for worker in failed:
            settings = " ".join(f"{k}={shlex.quote(v)}" for k, v in worker.environment.items())
            typer.echo(
                f"  worker {worker.shard} {worker.fate} ({worker.last_line})\n"
                f"  {settings} {shlex.join(['stopper', *worker.command[3:]])}".rstrip(),
                err=True,
            )
        raise typer.Exit(1)
    _tell_of_answers(out, context.params["comparer"])
    typer.echo(f"{out}: complete. Next: stopper train {out} --out ARTIFACT")


def _tell_of_answers(out: Path, comparer: str) -> None:
    """Say how many outputs lack an answer: all of their cues count as disagreeing."""
    from stopper.relabelling import count_answered

    answered, total = count_answered(out)
    if answered < total:
        typer.echo(
            f"{total - answered} of {total} outputs hold no answer that the comparer {comparer!r} "
            "finds; if these are many, raise --max-tokens, or try another one by `stopper relabel`",
            err=True,
        )


def demo(
    model: Annotated[
        str | None, typer.Option(help="Default: the tiny reasoner of this checkout.")
    ] = None,
    artifact: Annotated[
        Path | None, typer.Option(help="Calibrated artifact of that model.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="JSONL of held-out prompts with answers.")
    ] = None,
    diffusion: Annotated[
        bool,
        typer.Option(
            "--diffusion", help="The tiny diffusion LM instead: its canvas settling, and the halt."
        ),
    ] = False,
    alpha: Annotated[
        float | None,
        typer.Option(help="Share that may be stopped badly. Default: as calibrated."),
    ] = None,
    limit: Annotated[int, typer.Option(help="Number of prompts.", min=1)] = 400,
    traces: Annotated[int, typer.Option(help="Stopped traces to show.", min=0)] = 3,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures as JSON.", metavar="FILE")
    ] = None,
    plot: Annotated[
        Path, typer.Option(help="Where to draw tokens against accuracy.", metavar="FILE")
    ] = Path("stopper-demo.png"),
    max_tokens: Annotated[int, typer.Option(help="Longest full output.", min=1)] = 400,
    max_num_seqs: Annotated[
        int | None,
        typer.Option(help="Requests at a time. Default: 64, with --diffusion 16.", min=1),
    ] = None,
    dtype: Annotated[str, typer.Option(help=_DTYPE_HELP)] = "float32",
    seed: Annotated[int, typer.Option(help="Fixes every request's noise.")] = 1,
) -> None:
    """Serve held-out prompts unstopped and stopped with real vLLM, and compare.

    With --diffusion a masked diffusion LM in plain transformers is decoded in full, halted by its
    artifact, and by Prophet.
    """
    import json

    from rich.console import Console

    if diffusion:
        from adapters.transformers.demo import demo_diffusion

        demo_diffusion(
            model, artifact, prompts, alpha, limit, traces, json_file, plot, max_num_seqs or 16
        )
        return
    from transformers import AutoTokenizer

    from adapters.vllm.collect import generation_defaults
    from adapters.vllm.demo import compare
    from adapters.vllm.engine import EngineOptions
    from adapters.vllm.generation import Sampling
    from adapters.vllm.prompts import read_prompts
    from adapters.vllm.showing import results_table, show_traces
    from calibration.files import replacing
    from calibration.plots import plot_evaluations
    from stopper.errors import InputError

    home = Path(__file__).resolve().parents[2] / "examples" / "tiny_reasoner"
    if None in (model, artifact, prompts) and not home.is_dir():
        raise InputError(
            "the tiny reasoner is part of stopper's source checkout, not of the installed package; "
            "run this in a checkout, or give --model, --artifact and --prompts"
        )
    model = model or str(home / "model")
    asked = read_prompts(prompts or home / "problems" / "test.jsonl", limit)
    own = generation_defaults(model)
    found = compare(
        EngineOptions(model=model, dtype=dtype, max_num_seqs=max_num_seqs or 64),
        artifact or home / "artifact",
        alpha,
        asked,
        Sampling(
            own.get("temperature", 1.0), own.get("top_p", 1.0), own.get("top_k", 0), max_tokens,
            seed,
        ),
        batch=64,
    )  # fmt: skip
    console = Console()
    show_traces(console, found, AutoTokenizer.from_pretrained(model), traces)
    console.print(results_table(found))
    plot_evaluations(found.curve, plot, f"{Path(model).name}: {len(asked)} held-out prompts")
    console.print(f"Wrote {plot}", soft_wrap=True, highlight=False)
    if json_file is not None:
        with replacing(json_file) as file:
            file.write((json.dumps(found.to_json(), indent=2) + "\n").encode())
        console.print(f"Wrote {json_file}", soft_wrap=True, highlight=False)
