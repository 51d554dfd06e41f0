"""Traces in which memory helps, and traces in which the first exit matters."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from probes.spec import ProbeSpec
from probes.training_traces import TrainingTraces

WIDTH = 6


def spec(kind: str = "gru", **changes: object) -> ProbeSpec:
    dims = {"gru": (6,), "mlp": (8,), "linear": ()}[kind]
    fields = {"kind": kind, "layers": (1, 2), "hidden_size": WIDTH // 2, "hidden_dims": dims}
    return ProbeSpec.model_validate(fields | changes)


def traces(
    count: int = 150, rollouts: int = 2, seed: int = 0, memory: bool = True
) -> TrainingTraces:
    """A cue is good where its trace has shown a mark at this cue or, with memory, before it."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 9, count * rollouts)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    hidden = rng.normal(size=(offsets[-1], WIDTH))
    mark = rng.random(offsets[-1]) < 0.3
    good = mark.copy()
    if memory:
        for low, high in pairwise(offsets):
            good[low:high] = np.logical_or.accumulate(mark[low:high])
    hidden[:, 0] += 4.0 * mark
    labels = good.astype(np.int8)
    labels[rng.random(len(labels)) < 0.1] = -1
    rows = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(offsets[-1]) - offsets[:-1][rows]
    return TrainingTraces(
        hidden=(hidden * np.array([1, 1, 30, 1, 1, 1]) + 50).astype(np.float32),
        offsets=offsets.astype(np.int64),
        labels=labels,
        costs=(place + 1) / (lengths[rows] + 1),
        groups=np.repeat([f"p{index}" for index in range(count)], rollouts),
    )


def memorable(count: int = 100, rollouts: int = 3, width: int = 60) -> TrainingTraces:
    """Every prompt has a face of its own and a label by chance: only a leak can score it."""
    rng = np.random.default_rng(0)
    prompt = np.repeat(np.arange(count), rollouts)
    faces = 5 * rng.normal(size=(count, width))
    labels = rng.integers(0, 2, count).astype(np.int8)
    return TrainingTraces(
        hidden=np.repeat(faces[prompt], 2, axis=0).astype(np.float32),
        offsets=np.arange(0, 2 * len(prompt) + 1, 2),
        labels=np.repeat(labels[prompt], 2),
        costs=np.tile([0.3, 0.6], len(prompt)),
        groups=np.array([f"p{index}" for index in prompt]),
    )
