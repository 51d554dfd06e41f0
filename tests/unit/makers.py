"""Small honest specimens: a model's fingerprint, a trace store with signal, an artifact."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from calibration.risk import threshold
from calibration.splits import group_hashes
from calibration.traces import CueRecord, TraceMeta, TraceRecord, TraceWriter
from probes.network import Probe
from probes.provenance import Closing, ModelFingerprint
from probes.scorers import Scorer
from probes.sequence import SequenceProbe, tensor_shapes
from probes.spec import ProbeSpec
from stopper.artifact import Artifact, CalibrationRecord, Manifest
from stopper.cues import CueAutomaton, CueSpec

LAYERS, HIDDEN = (1, 2, 4), 6
CREATED = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
CUES = CueSpec(think_start_ids=(1,), think_end_ids=(2,))


def fingerprint(**changes: Any) -> ModelFingerprint:
    fields: dict[str, Any] = {
        "model": "org/tiny",
        "architecture": "Qwen2ForCausalLM",
        "hidden_size": HIDDEN,
        "num_layers": 4,
        "vocab_size": 40,
        "dtype": "float32",
        "tokenizer_sha256": "a" * 64,
        "chat_template_sha256": "b" * 64,
    }
    return ModelFingerprint(**fields | changes)


def closing() -> Closing:
    return Closing(end_ids=(2,), answer_prompt="answer", answer_prompt_ids=(9,))


def meta(**changes: Any) -> TraceMeta:
    fields: dict[str, Any] = {
        "model": fingerprint(),
        "layers": LAYERS,
        "hidden_size": HIDDEN,
        "cues": CUES.model_dump(mode="json"),
        "closing": closing(),
        "sampling": {"temperature": 1.0, "top_p": 1.0},
        "engine": {"vllm": "0.32.0", "runner": "v1", "dtype": "float32"},
    }
    return TraceMeta(**fields | changes)


def automaton(spec: CueSpec = CUES) -> CueAutomaton:
    words = ["?", "<think>", "</think>", "wait", "hmm", "so", "1", "2", "check", "answer"]
    vocabulary = {word: index for index, word in enumerate(words)}
    return CueAutomaton.build(Tokenizer(WordLevel(vocabulary, unk_token="?")), spec)


def record(trace_id: str = "t0", cues: int = 2, seed: int = 0, **changes: Any) -> TraceRecord:
    """One trace whose hidden states tell, noisily, which cues agree with its end."""
    rng = np.random.default_rng([seed, *trace_id.encode()])
    agrees = rng.random(cues) < np.linspace(0.35, 0.9, cues)
    hidden = rng.normal(size=(cues, len(LAYERS) * HIDDEN)) + 5.0
    hidden[:, :3] += 1.2 * agrees[:, None]
    right = bool(rng.random() < 0.8)
    events = [
        CueRecord(
            position=3 * (index + 1),
            label=("wait", "hmm")[index % 2],
            forced_ids=[6, index],
            forced_answer="1" if good else None,
            correct=bool(good and right),
            agrees=bool(good),
        )
        for index, good in enumerate(agrees)
    ]
    fields: dict[str, Any] = {
        "trace_id": trace_id,
        "group": trace_id.split("/")[0],
        # A prompt per group: equal prompts under two groups are refused as a leak.
        "prompt_ids": [1, 5, *changes.get("group", trace_id.split("/")[0]).encode()],
        "output_ids": [3, 4, 2, 9, 6],
        "thinking_tokens": 3 * cues + 4,
        "text": "so wait hmm",
        "answer": "1",
        "gold": "1" if right else "2",
        "full_correct": right,
        "level": 3,
        "finish_reason": "stop",
        "cues": events,
        "hidden": hidden.astype(np.float32),
    }
    return TraceRecord(**fields | changes)


def records(prompts: int = 60, rollouts: int = 1, seed: int = 0) -> list[TraceRecord]:
    rng = np.random.default_rng(seed)
    return [
        record(f"p{prompt}/{rollout}", int(rng.integers(0, 6)), seed)
        for prompt in range(prompts)
        for rollout in range(rollouts)
    ]


def store(folder: Path, traces: Iterable[TraceRecord], *, cues: bool = True, **meta_: Any) -> Path:
    with TraceWriter(folder, meta(**meta_), part_traces=16) as writer:
        for trace in traces:
            writer.append(trace)
    if cues:
        save_file(automaton().to_tensors(), folder / "cues.safetensors")
    return folder


def spec(**changes: Any) -> ProbeSpec:
    fields: dict[str, Any] = {
        "kind": "linear", "layers": LAYERS, "hidden_size": HIDDEN, "shaping": "rise"
    }  # fmt: skip
    return ProbeSpec(**fields | changes)


def probe(kind: ProbeSpec | None = None, seed: int = 0) -> Probe:
    shape = kind or spec()
    rng = np.random.default_rng(seed)
    return Probe(
        shape,
        [
            (rng.normal(size=(out, into)).astype("f4"), rng.normal(size=out).astype("f4"))
            for into, out in zip(shape.widths, shape.widths[1:], strict=False)
        ],
    )


def sequence_probe(kind: ProbeSpec | None = None, seed: int = 0) -> SequenceProbe:
    shape = kind or spec(kind="gru", hidden_dims=(5,))
    rng = np.random.default_rng(seed)
    tensors = {
        name: rng.normal(size=size).astype("f4") for name, size in tensor_shapes(shape).items()
    }
    return SequenceProbe(shape, tensors)


def scorer(shape: ProbeSpec) -> Scorer:
    return sequence_probe(shape) if shape.kind == "gru" else probe(shape)


def calibration(worst: np.ndarray, **changes: Any) -> CalibrationRecord:
    fields: dict[str, Any] = {
        "method": "ltt",
        "loss": "disagree",
        "alpha": 0.1,
        "confidence": 0.9,
        "n_units": len(worst),
        "n_traces": len(worst),
        "n_cues": 3 * len(worst),
        "promise": "at most a tenth",
    } | changes
    if "threshold" not in fields:
        method = fields["method"]
        fields["threshold"] = threshold(worst, fields["alpha"], method, fields["confidence"] or 0.9)
    return CalibrationRecord(**fields)


def worst_scores(n: int = 60, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.sort(np.r_[np.full(n // 3, -np.inf), rng.normal(size=n - n // 3)]).astype(np.float32)


def artifact(*, calibrated: bool = True, **changes: Any) -> Artifact:
    """Make a complete artifact; ``changes`` are the manifest's."""
    worst = worst_scores() if calibrated else None
    fields: dict[str, Any] = {
        "created": CREATED,
        "stopper_version": "0.1.0",
        "model": fingerprint(),
        "probe": spec(),
        "cues": CUES,
        "closing": closing(),
        "sampling": {"temperature": 1.0},
        "calibration": calibration(worst) if worst is not None else None,
        "training": {"label": "agrees"},
    } | changes
    return Artifact(
        Manifest(**fields),
        probe=scorer(fields["probe"]) if fields["probe"] else None,
        cues=automaton() if fields["cues"] else None,
        worst_scores=worst,
        splits={"train": group_hashes(["p1", "p2"]), "calibrate": group_hashes(["p3"])},
    )
