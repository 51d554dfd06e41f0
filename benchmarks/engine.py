"""Decode throughput with stopper on but never stopping, against vanilla vLLM; both in one run.

    python benchmarks/engine.py [--json FILE] [--rounds 8] [--tokens 256]

Engines of the tiny reasoner are started one after the other: without stopper, with an artifact
whose threshold no score passes, again with it, again without. Each is timed for some rounds at
batch 1 and 16; the figure is the ratio of the medians. The order lets a drift of the machine
cancel out. Within an engine every round is run with the requests watched and with stopper off for
them, so that `watching_ratio` tells what following the traces costs, free of the differences
between two processes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

HOME = Path(__file__).resolve().parents[1] / "examples" / "tiny_reasoner"


def never_stopping(folder: Path) -> Path:
    """Copy the artifact with scores so high that its finite threshold is never passed."""
    from stopper.artifact import Artifact

    artifact = Artifact.load(HOME / "artifact")
    record = artifact.manifest.calibration
    assert record is not None
    assert artifact.worst_scores is not None
    high = np.full_like(artifact.worst_scores, 1e9)
    card = record.model_copy(update={"threshold": 1e9})
    manifest = artifact.manifest.model_copy(update={"calibration": card})
    replace(artifact, manifest=manifest, worst_scores=high).save(folder)
    return folder


def start(ours: bool, folder: Path) -> Any:
    """Start vLLM, with stopper or without, with the same settings."""
    from vllm import LLM

    config = {"stopper": {"artifact": str(never_stopping(folder / "artifact")), "alpha": 0.05}}
    return LLM(
        model=str(HOME / "model"),
        dtype="float32",
        max_num_seqs=16,
        enable_prefix_caching=False,
        enable_chunked_prefill=False,
        disable_log_stats=True,
        additional_config=config if ours else {},
    )


def prompts(count: int) -> list[Any]:
    """Render the first held-out prompts."""
    from transformers import AutoTokenizer

    from adapters.vllm.prompts import read_prompts

    tokenizer = AutoTokenizer.from_pretrained(HOME / "model")
    asked = read_prompts(HOME / "problems" / "test.jsonl", count)
    return [{"prompt_token_ids": prompt.token_ids(tokenizer)} for prompt in asked]


def seconds(llm: Any, inputs: list[Any], tokens: int, seed: int, mode: int) -> float:
    """Time one batch of exactly `tokens` output tokens each."""
    from vllm import SamplingParams

    params = [
        SamplingParams(
            temperature=0.8,
            seed=seed + n,
            ignore_eos=True,
            max_tokens=tokens,
            extra_args={"stopper": mode},
        )
        for n in range(len(inputs))
    ]
    start = time.perf_counter()
    llm.generate(inputs, params, use_tqdm=False)
    return time.perf_counter() - start


def measure(ours: bool, rounds: int, tokens: int) -> dict[str, list[float]]:
    """Time one engine; runs in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        llm = start(ours, Path(scratch))
        found: dict[str, list[float]] = {}
        for batch in (1, 16):
            inputs = prompts(batch)
            seconds(llm, inputs, tokens, 0, 1)
            for number in range(rounds):
                for mode in (1, 0) if number % 2 else (0, 1):
                    spent = seconds(llm, inputs, tokens, number, mode)
                    found.setdefault(f"{batch}/{mode}", []).append(spent)
        # Otherwise the exit joins the engine's processes before anything tells them to stop.
        llm.llm_engine.engine_core.shutdown()
    return found


def apart(ours: bool, rounds: int, tokens: int) -> dict[str, list[float]]:
    """Call `measure` in a process of its own."""
    command = [sys.executable, __file__, "--measure", "ours" if ours else "vanilla"]
    command += ["--rounds", str(rounds), "--tokens", str(tokens)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--measure", choices=("vanilla", "ours"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if asked.measure:
        print(json.dumps(measure(asked.measure == "ours", asked.rounds, asked.tokens)))
        return
    times: dict[bool, dict[str, list[float]]] = {False: {}, True: {}}
    for ours in (False, True, True, False):
        for batch, found in apart(ours, asked.rounds, asked.tokens).items():
            times[ours].setdefault(batch, []).extend(found)
    result = {}
    for batch in ("1", "16"):
        vanilla = statistics.median(times[False][f"{batch}/1"])
        with_stopper, off = (statistics.median(times[True][f"{batch}/{mode}"]) for mode in (1, 0))
        result[f"batch_{batch}"] = {
            "throughput_ratio": vanilla / with_stopper,
            "best_ratio": min(times[False][f"{batch}/1"]) / min(times[True][f"{batch}/1"]),
            "watching_ratio": off / with_stopper,
            "vanilla_tokens_per_s": int(batch) * asked.tokens / vanilla,
            "ms_per_step_vanilla": 1e3 * vanilla / asked.tokens,
            "ms_per_step_stopper": 1e3 * with_stopper / asked.tokens,
        }
    print(json.dumps(result, indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
