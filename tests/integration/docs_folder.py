"""What lies in a reader's folder: small data under the names that the documents use."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from calibration.denoising_simulation import DenoisingSettings, simulate_denoising
from calibration.traces import TraceDataset, TraceRecord, TraceWriter
from stopper.artifact import Artifact

ROOT = Path(__file__).resolve().parents[2]
REASONER = ROOT / "examples" / "tiny_reasoner"
STORES = {
    "traces": 480,
    "fresh-traces": 160,
    "traces-new-vllm": 60,
    "try": 20,
    "build/tiny_reasoner/calibrate": 120,
    "build/tiny_reasoner/test": 120,
    "build/rehearsal/traces": 300,
}
DECODES = {"decodes": 700, "decodes/select": 80, "decodes/calibrate": 300, "decodes/test": 100}
DTYPE = "bfloat16"
"""In which vLLM serves a model by itself; only the tiny reasoner's own artifact is for float32."""
LAYERS = (1, 2, 3, 4)


def prepare(folder: Path) -> None:
    """Fill a folder."""
    shutil.copytree(
        ROOT / "examples", folder / "examples",
        ignore=shutil.ignore_patterns("model", "__pycache__"),
    )  # fmt: skip
    for name in ("tiny_reasoner", "tiny_diffusion"):  # never written to
        (folder / "examples" / name / "model").symlink_to(ROOT / "examples" / name / "model")
    shutil.copytree(ROOT / "deploy", folder / "deploy", symlinks=True)
    _artifacts(folder)
    recorded = list(TraceDataset(ROOT / "examples" / "traces"))
    for seed, (name, count) in enumerate(STORES.items()):
        _store(folder / name, recorded, count, seed)
    _decodes(folder)
    _texts(folder)


def _artifacts(folder: Path) -> None:
    loaded = Artifact.load(REASONER / "artifact")
    expires = datetime.now(UTC) + timedelta(days=90)
    served = loaded.manifest.model_copy(
        update={"model": loaded.manifest.model.model_copy(update={"dtype": DTYPE})}
    )
    later = served.model_copy(update={"expires": expires})
    for name, manifest in (
        ("artifact", served),
        ("artifacts/2026-11", served),
        ("artifacts/2026-12", later),
        ("examples/tiny_reasoner/tiny-2026-12", later),
    ):
        replace(loaded, manifest=manifest).save(folder / name)


def _store(folder: Path, recorded: list[TraceRecord], count: int, seed: int) -> None:
    """Write more traces, and more layers, than were recorded: each again, blurred, as another."""
    source = TraceDataset(ROOT / "examples" / "traces")
    model = source.meta.model
    if "tiny_reasoner" not in folder.parts:
        model = model.model_copy(update={"dtype": DTYPE})
    meta = source.meta.model_copy(update={"layers": LAYERS, "model": model})
    rng = np.random.default_rng(seed)
    with TraceWriter(folder, meta) as writer:
        for index in range(count):
            trace = recorded[int(rng.integers(len(recorded)))]
            name = f"{seed}-{index}"
            hidden = np.tile(trace.hidden, (1, len(LAYERS)))
            blur = rng.normal(scale=0.05, size=hidden.shape)
            writer.append(
                replace(
                    trace,
                    trace_id=f"{name}/0",
                    group=name,
                    prompt_ids=[*trace.prompt_ids, 100 + seed, *map(int, str(index))],
                    hidden=(hidden + blur).astype(np.float32),
                )
            )
    shutil.copy(ROOT / "examples" / "traces" / "cues.safetensors", folder)


def _decodes(folder: Path) -> None:
    model = TraceDataset(ROOT / "examples" / "traces").meta.model.model_dump(mode="json")
    for seed, (name, count) in enumerate(
        {
            "decodes": 700,
            "decodes/select": 80,
            "decodes/calibrate": 300,
            "decodes/test": 100,
        }.items()
    ):
        table = simulate_denoising(DenoisingSettings(count, steps=8, seed=seed))
        replace(table, settings={**table.settings, "model": model, "comparer": "auto"}).save(
            folder / name
        )


def _texts(folder: Path) -> None:
    problems = ROOT / "examples" / "tiny_diffusion" / "problems" / "test.jsonl"
    few = "".join(problems.read_text().splitlines(keepends=True)[:6])
    for name in ("prompts", "SELECT", "CALIBRATE", "TEST"):
        (folder / f"{name}.jsonl").write_text(few)
    documents = [
        {"title": "Canberra", "text": "It is a city. Canberra is the capital of Australia."},
        {"title": "Sydney", "text": "Sydney has a harbour. It is large."},
    ]
    (folder / "documents.jsonl").write_text("".join(json.dumps(one) + "\n" for one in documents))
