"""Runs one DiffusionGemma engine in this process, with a tap at its sampler; writes what it saw.

    python tests/integration/diffusion_run.py SPEC.json OUT

The spec: `model`, `artifact`, `passes`: lists of requests, each `{"prompt", "args"}`. The first
pass runs with stopper taken out of the sampler's way. Every pass starts from the same random seed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"


class Tap:
    """Notes what a sampler is given and leaves behind, then lets it work."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler
        self.steps: list[dict[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sampler, name)

    def __call__(self, logits: Any, batch: Any, *rest: Any) -> Any:
        states, slots = self.sampler.diffusion_states, batch.idx_mapping_np[: batch.num_reqs]
        noted = {
            "requests": list(batch.req_ids[: batch.num_reqs]),
            "counts": np.diff(batch.cu_num_logits_np[: batch.num_reqs + 1]),
            "logits": logits.numpy().copy(),
            "canvas": states.canvas.numpy()[slots],
            "argmax": states.argmax_canvas.numpy()[slots],
            "step": states.step.numpy()[slots],
            "committing": states.is_encoder_phase.numpy()[slots],
            "cap": states.max_steps.numpy()[slots],
        }
        output = self.sampler(logits, batch, *rest)
        self.steps.append({**noted, "cap_after": states.max_steps.numpy()[slots]})
        return output


def run(spec: dict[str, Any], out: Path) -> None:
    """Run the passes."""
    import torch
    from engine_run import keep_async_scheduling
    from vllm import SamplingParams

    from adapters.vllm.engine import EngineOptions, running_engine
    from adapters.vllm.settings import PluginSettings

    keep_async_scheduling()
    options = EngineOptions(
        model=spec["model"],
        dtype="float32",
        max_model_len=256,
        max_num_seqs=16,
        enforce_eager=True,
        prefix_caching=False,
        extra={
            "limit_mm_per_prompt": {"image": 0, "video": 0, "audio": 0},
            "distributed_executor_backend": "uni",
        },
    )
    settings = PluginSettings(artifact=Path(spec["artifact"]), decisions=out / "decisions.jsonl")
    with running_engine(options, settings) as llm:
        worker = llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker
        runner = worker.model_runner
        halting = runner.sampler
        inner = halting._original = Tap(halting._original)
        outer = Tap(halting)
        passes = []
        for number, requests in enumerate(spec["passes"]):
            runner.sampler = outer if number else inner
            inner.steps, outer.steps = [], []
            torch.manual_seed(1)
            done = llm.generate(
                [{"prompt_token_ids": one["prompt"]} for one in requests],
                [
                    SamplingParams(max_tokens=2 * 16, ignore_eos=True, extra_args=one["args"])
                    for one in requests
                ],
                use_tqdm=False,
            )
            decided = {d["request_id"].split("-")[0]: d for d in worker.stopper_decisions()}
            passes.append(
                [
                    {
                        "tokens": list(one.outputs[0].token_ids),
                        "record": decided.get(one.request_id),
                    }
                    for one in done
                ]
            )
            for name, tap in (("inner", inner), ("outer", outer)):
                save(out / f"{name}-{number}", tap.steps)
        config = llm.llm_engine.vllm_config
        result = {
            "runner": "v2" if config.use_v2_model_runner else "v1",
            "async_scheduling": bool(config.scheduler_config.async_scheduling),
            "passes": passes,
            "counters": worker.stopper_counters(),
        }
    (out / "result.json").write_text(json.dumps(result))


def save(folder: Path, steps: list[dict[str, Any]]) -> None:
    """Write a tap's notes: a file of arrays a step, and one of names."""
    folder.mkdir()
    for number, step in enumerate(steps):
        arrays = {name: value for name, value in step.items() if name != "requests"}
        np.savez(folder / f"{number:04d}.npz", **arrays)
    (folder / "requests.json").write_text(json.dumps([step["requests"] for step in steps]))


if __name__ == "__main__":
    run(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
