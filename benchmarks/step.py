"""What stopper adds to one engine step on the host, without an engine around it.

    python benchmarks/step.py

Reads the rows of a V1 step from tensors as the runner holds them and advances the traces, with no
cue in any row and with a cue in one, for several batch sizes. Prints microseconds per step.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from adapters.vllm.host_tracker import HostTracker
from adapters.vllm.rows import v1_rows
from adapters.vllm.watch import HostWatch
from stopper.artifact import Artifact

HOME = Path(__file__).resolve().parents[1] / "examples" / "tiny_reasoner"
ROUNDS = 2000


def buffer(tensor: torch.Tensor) -> SimpleNamespace:
    """Look like one of the runner's paired buffers."""
    return SimpleNamespace(gpu=tensor, np=tensor.numpy())


def cost(batch: int, cues: int) -> float:
    """Return microseconds per step of `batch` rows, `cues` of which hold a cue."""
    artifact = Artifact.load(HOME / "artifact")
    assert artifact.cues is not None
    assert artifact.probe is not None
    tracker = HostTracker(
        artifact.cues, artifact.probe, rise_weight=0.5, force_ids=(1,), keep_hidden=False
    )
    watch = HostWatch(tracker)
    inside = artifact.cues.spec.think_start_ids
    names = [f"chatcmpl-{number:08x}" for number in range(batch)]
    for name in names:
        watch.start(name, [*inside] * 50, np.float32(1e9), forces=True)
    fires = next(
        token
        for token in range(len(artifact.cues.token_class))
        if artifact.cues.step(artifact.cues.prompt_state(inside), token)[1]
    )
    calm = artifact.cues.spec.think_start_ids[0]
    tokens = torch.tensor([fires] * cues + [calm] * (batch - cues), dtype=torch.int32)
    runner: Any = SimpleNamespace(
        input_batch=SimpleNamespace(num_reqs=batch, req_ids=names),
        query_start_loc=buffer(torch.arange(batch + 1, dtype=torch.int32)),
        discard_request_mask=buffer(torch.zeros(batch, dtype=torch.bool)),
        input_ids=buffer(tokens),
        positions=torch.full((batch,), 50),
    )
    hidden = torch.zeros(batch, artifact.probe.spec.hidden_size)
    layers = artifact.probe.spec.layers
    state = SimpleNamespace(
        spec_decode_metadata=None,
        hidden_states=hidden,
        aux_hidden_states=[hidden] * (len(layers) - 1),
    )

    def rounds(step: Callable[[], object]) -> float:
        start = time.perf_counter()
        for number in range(ROUNDS):
            # Calm tokens reopen the thinking between two cues, so that each is a word of its own.
            tokens.fill_(calm)
            tokens[:cues] = fires if number % 2 else calm
            runner.positions.fill_(50 + number)
            step()
        return time.perf_counter() - start

    with torch.inference_mode():
        spent = rounds(lambda: watch.step(v1_rows(runner, state, layers, layers[-1])))
        spent -= rounds(lambda: None)
    return 1e6 * spent / ROUNDS


def main() -> None:
    """Measure and print."""
    found = {
        f"batch_{batch}": {
            "no_cue_us": round(cost(batch, 0), 1),
            "one_cue_every_second_step_us": round(cost(batch, 1), 1),
        }
        for batch in (1, 16, 64)
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
