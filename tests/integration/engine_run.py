"""Runs one offline engine with stopper in a process of its own and writes down what it did.

    python tests/integration/engine_run.py SPEC.json OUT

A process of its own, because vLLM wants some settings (the runner, Triton's interpreter) before it
is imported, and because an engine that dies must not take the tests with it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def keep_async_scheduling() -> None:
    """Let a CPU engine schedule asynchronously, as GPUs do; vLLM's CPU platform turns it off."""
    from vllm.platforms.cpu import CpuPlatform

    original = CpuPlatform.check_and_update_config.__func__

    def keep(cls: type, vllm_config: Any) -> None:
        original(cls, vllm_config)
        vllm_config.scheduler_config.async_scheduling = True

    CpuPlatform.check_and_update_config = classmethod(keep)


def run(spec: dict[str, Any], out: Path) -> None:
    """Run every pass of the spec: a mode (0, 1, "audit") and its sampling."""
    from adapters.vllm.engine import EngineOptions, running_engine
    from adapters.vllm.prompts import read_prompts
    from adapters.vllm.settings import PluginSettings
    from stopper.artifact import Artifact

    prompts = read_prompts(Path(spec["prompts"]), spec["limit"])
    artifact = Artifact.load(spec["artifact"])
    closing = artifact.manifest.closing
    assert closing is not None
    settings = PluginSettings(
        artifact=Path(spec["artifact"]),
        alpha=spec["alpha"],
        tracker=spec.get("tracker", "auto"),
        keep_hidden=spec.get("keep_hidden", False),
        decisions=out / "decisions.jsonl",
    )
    options = EngineOptions(
        model=spec["model"],
        dtype="float32",
        max_model_len=spec.get("max_model_len", 512),
        max_num_seqs=spec.get("max_num_seqs", 16),
        tensor_parallel_size=spec.get("tensor_parallel_size", 1),
        enforce_eager=spec.get("enforce_eager", True),
        extra={"disable_log_stats": False, **spec.get("engine", {})},
    )
    if spec.get("keep_async"):
        keep_async_scheduling()
    with running_engine(options, settings) as llm:
        result = serve(llm, spec, prompts, closing.end_ids, out)
    (out / "result.json").write_text(json.dumps(result))


def serve(
    llm: Any, spec: dict[str, Any], prompts: list[Any], end_ids: Any, out: Path
) -> dict[str, Any]:
    """Run the passes and say what was decided."""
    from transformers import AutoTokenizer

    from adapters.vllm.generation import Sampling, generate, outer_id

    tokenizer = AutoTokenizer.from_pretrained(spec["model"])
    sampling = Sampling(**spec["sampling"])
    changes = {} if spec.get("seeded", True) else {"seed": None}
    passes: dict[str, Any] = {}
    for mode in spec["passes"]:
        ids = [prompt.token_ids(tokenizer) for prompt in prompts]
        params = [sampling.params(f"{prompt.id}#0", mode, **changes) for prompt in prompts]
        traces = generate(llm, ids, params, end_ids)
        ranks = llm.collective_rpc("stopper_decisions", args=(1_000_000,))
        decided = {outer_id(d["request_id"]): d for rank in ranks for d in rank}
        passes[str(mode)] = [
            {
                "id": prompt.id,
                "prompt_ids": trace.prompt_ids,
                "output_ids": trace.output_ids,
                "finish_reason": trace.finish_reason,
                "decision": decided[trace.request_id],
            }
            for prompt, trace in zip(prompts, traces, strict=True)
        ]
        for number, trace in enumerate(traces):
            if trace.cues:
                hidden = np.stack([cue.hidden for cue in trace.cues])
                np.save(out / f"hidden-{mode}-{number}.npy", hidden)
    config = llm.llm_engine.vllm_config
    return {
        "runner": "v2" if config.use_v2_model_runner else "v1",
        "async_scheduling": bool(config.scheduler_config.async_scheduling),
        "counters": llm.collective_rpc("stopper_counters"),
        "metrics": {
            metric.name: metric.value for metric in llm.get_metrics() if hasattr(metric, "value")
        },
        "passes": passes,
    }


if __name__ == "__main__":
    run(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
