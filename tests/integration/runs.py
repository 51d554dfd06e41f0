"""Has `engine_host.py` run engines, and checks them against transformers and the offline rule."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
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

#: An engine that takes longer hangs.
PATIENCE_S = 1400

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


def bound(ranks: int) -> str:
    """Bind each rank to a core, for vLLM's workers spin; those of a test process to its own."""
    cores = sorted(os.sched_getaffinity(0))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return "|".join(str(cores[-1 - (number + rank) % len(cores)]) for rank in range(ranks))


def environment(*, v2: bool = False, ranks: int = 1) -> dict[str, str]:
    """Give the environment of an engine in its own process."""
    env = {**os.environ, "VLLM_LOGGING_LEVEL": "WARNING", "VLLM_CPU_KVCACHE_SPACE": "1"}
    env["VLLM_NO_USAGE_STATS"] = "1"
    env["VLLM_USE_AOT_COMPILE"] = "0"  # as in adapters/vllm/engine.py
    env["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # the worker is in the engine's process
    env["VLLM_CPU_OMP_THREADS_BIND"] = bound(ranks)
    if v2:
        env["PYTHONPATH"] = str(V2_ON_CPU)
        env["VLLM_USE_V2_MODEL_RUNNER"] = "1"
        # The interpreter's Python kernels cannot be traced by dynamo.
        env["TORCHDYNAMO_DISABLE"] = "1"
    return env


class EngineHost:
    """`engine_host.py`: a process that has imported vLLM and forks one for each engine."""

    def __init__(self, *, v2: bool) -> None:
        script = Path(__file__).with_name("engine_host.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script)],
            env=environment(v2=v2),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self._process.kill)

    def run(self, program: str, *arguments: object, folder: Path, ranks: int = 1) -> int:
        """Run a program in `folder`; give its exit status, negative where a signal ended it."""
        assert self._process.stdin is not None
        order = {
            "program": program,
            "arguments": [str(argument) for argument in arguments],
            "folder": str(folder),
            "environment": {"VLLM_CPU_OMP_THREADS_BIND": bound(ranks)},
        }
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        pid = self._answer("pid")
        watchdog = threading.Timer(PATIENCE_S, os.killpg, (pid, signal.SIGKILL))
        watchdog.start()
        try:
            return self._answer("status")
        finally:
            watchdog.cancel()

    def _answer(self, name: str) -> int:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the host of the engines ended"
        return int(json.loads(line)[name])


@cache
def engine_host(*, v2: bool = False) -> EngineHost:
    """Give this test process's host of engines; two runners need two."""
    return EngineHost(v2=v2)


def said(folder: Path) -> str:
    """Give the end of what a program printed in `folder`."""
    out, err = ((folder / f"std{name}.txt").read_text() for name in ("out", "err"))
    return out[-2000:] + err[-6000:]


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
    ranks = spec.get("tensor_parallel_size", 1)
    host = engine_host(v2=v2)
    status = host.run("engine", folder / "spec.json", folder, folder=folder, ranks=ranks)
    assert status == 0, said(folder)
    return Run(folder, json.loads((folder / "result.json").read_text()))


def run_stopper(*arguments: object, folder: Path) -> int:
    """Run `stopper` with these arguments in `folder`; give its exit status."""
    return engine_host().run("stopper", *arguments, folder=folder)


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
