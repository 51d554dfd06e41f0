"""Starts `engine_run.py` and checks what came back against transformers and the offline rule."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from probes.shaping import shape
from stopper.artifact import Artifact
from stopper.policy import StopPolicy

ROOT = Path(__file__).resolve().parents[2]
REASONER = ROOT / "examples" / "tiny_reasoner"
MODEL, ARTIFACT = REASONER / "model", REASONER / "artifact"
TEST_PROMPTS = REASONER / "problems" / "test.jsonl"
V2_ON_CPU = Path(__file__).parent / "v2_on_cpu"

#: Some traces stop at their first cue, some later, some never.
ALPHA = 0.02

#: As the reasoner is served: its generation_config.json.
SAMPLED = {"temperature": 0.8, "top_p": 0.95, "top_k": 0, "max_tokens": 320, "seed": 0}
GREEDY = {**SAMPLED, "temperature": 0.0}

NGRAM = {
    "speculative_config": {
        "method": "ngram",
        "num_speculative_tokens": 3,
        "prompt_lookup_max": 3,
        "prompt_lookup_min": 1,
    }
}


@dataclass(frozen=True)
class Run:
    """What an engine did."""

    folder: Path
    result: dict[str, Any]

    def hidden(self, mode: int | str, number: int) -> np.ndarray:
        return np.load(self.folder / f"hidden-{mode}-{number}.npy")


def environment(*, v2: bool = False, ranks: int = 1) -> dict[str, str]:
    """Give the environment of an engine in its own process."""
    env = {**os.environ, "VLLM_LOGGING_LEVEL": "WARNING", "VLLM_CPU_KVCACHE_SPACE": "1"}
    env["VLLM_NO_USAGE_STATS"] = "1"
    # Each test process keeps its engines to one core of its own: vLLM's workers spin.
    cores = sorted(os.sched_getaffinity(0))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    core = str(cores[-1 - number % len(cores)])
    env["VLLM_CPU_OMP_THREADS_BIND"] = "|".join([core] * ranks)
    if v2:
        env["PYTHONPATH"] = str(V2_ON_CPU)
        env["VLLM_USE_V2_MODEL_RUNNER"] = "1"
        # The interpreter's Python kernels cannot be traced by dynamo.
        env["TORCHDYNAMO_DISABLE"] = "1"
    return env


def run_engine(folder: Path, *, v2: bool = False, **spec: Any) -> Run:
    """Run one engine; fails with the end of its log if it dies."""
    spec = {
        "model": str(MODEL),
        "artifact": str(ARTIFACT),
        "prompts": str(TEST_PROMPTS),
        "alpha": ALPHA,
        "sampling": SAMPLED,
        "passes": [1],
        **spec,
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    done = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("engine_run.py")),
            str(folder / "spec.json"),
            str(folder),
        ],
        env=environment(v2=v2, ranks=spec.get("tensor_parallel_size", 1)),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=1400,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return Run(folder, json.loads((folder / "result.json").read_text()))


@cache
def reference() -> Any:
    """The reasoner in transformers, float32."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()


def true_hidden(trace: dict[str, Any], artifact: Artifact, at: list[int]) -> np.ndarray:
    """Hidden states at output indices `at` by transformers, float32 [n, input_dim]."""
    assert artifact.probe is not None
    ids = torch.tensor([trace["prompt_ids"] + trace["output_ids"]])
    with torch.inference_mode():
        states = reference()(ids, output_hidden_states=True).hidden_states
    first = len(trace["prompt_ids"])
    layers = [states[layer][0, [first + i for i in at]] for layer in artifact.probe.spec.layers]
    return torch.cat(layers, dim=-1).numpy()


def offline_stop(trace: dict[str, Any], artifact: Artifact, alpha: float) -> int | None:
    """Where the artifact's rule stops this very output: matcher, numpy probe, exact threshold.

    The output itself tells which cues were seen, so that the check holds however it was sampled.
    Returns output tokens up to and including the cue.
    """
    assert artifact.cues is not None
    assert artifact.probe is not None
    # The last token was sampled and never fed: nothing could be read there.
    seen = artifact.cues.events(trace["prompt_ids"], trace["output_ids"][:-1])
    if not seen:
        return None
    hidden = true_hidden(trace, artifact, [index for index, _ in seen])
    scores = shape(artifact.probe.score(hidden), artifact.probe.spec)
    limit = StopPolicy.from_artifact(artifact).threshold(alpha)
    return next((index + 1 for (index, _), s in zip(seen, scores, strict=True) if s > limit), None)


def check_decisions(run: Run, alpha: float, mode: int | str = 1) -> dict[str, int]:
    """Engine decision = offline decision on every trace, and the closing is where it belongs."""
    artifact = Artifact.load(ARTIFACT)
    closing = artifact.manifest.closing
    assert closing is not None
    force = [*closing.end_ids, *closing.answer_prompt_ids]
    counted = {"stopped": 0, "not_stopped": 0, "marked": 0}
    for trace in run.result["passes"][str(mode)]:
        decision = trace["decision"]
        counted[decision["decision"]] += 1
        expected = offline_stop(trace, artifact, alpha)
        assert decision["position"] == expected, (trace["id"], decision, expected)
        if decision["decision"] == "stopped":
            after = trace["output_ids"][expected : expected + len(force)]
            assert after == force[: len(after)], trace["id"]
    for rank in run.result["counters"]:
        assert not rank.get("fail_open"), rank
        assert not rank.get("not_applied"), rank
    return counted
