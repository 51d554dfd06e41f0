"""A small DiffusionGemma with random weights, and an artifact whose levels lie among its scores."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from runs import MODEL

from calibration.risk import threshold
from stopper.artifact import Artifact, CalibrationRecord, Manifest, ModelFingerprint
from stopper.artifact import fingerprint_files as hashes
from stopper.halting import HaltingRule
from stopper.manifest import HaltingSpec, SamplerSpec
from stopper.schedule import Schedule

CANVAS, STEPS, HIDDEN, LAYERS, VOCABULARY = 16, 8, 64, 2, 542

SAMPLER = {"t_min": 0.4, "t_max": 0.8, "confidence_threshold": 0.005, "stability_threshold": 1}
ENTROPY_BOUND = 0.1

#: Random weights have small margins: a schedule in their range.
RULE = HaltingRule(Schedule("linear", high=0.3, low=0.05))


def make_model(folder: Path) -> Path:
    """Write the model, with the reasoner's tokenizer, in sizes that CPU attention takes."""
    import torch
    from transformers import (
        DiffusionGemmaConfig,
        DiffusionGemmaForBlockDiffusion,
        DiffusionGemmaTextConfig,
        Gemma4VisionConfig,
    )

    text = DiffusionGemmaTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        global_head_dim=32,
        sliding_window=64,
        max_position_embeddings=512,
        layer_types=["sliding_attention", "full_attention"],
        num_experts=2,
        top_k_experts=1,
        moe_intermediate_size=32,
    )
    vision = Gemma4VisionConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=32,
        position_embedding_size=64,
    )
    config = DiffusionGemmaConfig(
        text_config=text,
        vision_config=vision,
        canvas_length=CANVAS,
        boi_token_id=VOCABULARY - 4,
        eoi_token_id=VOCABULARY - 3,
        image_token_id=VOCABULARY - 2,
    )
    torch.manual_seed(0)
    DiffusionGemmaForBlockDiffusion(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODEL / name, folder)
    generation = {
        **SAMPLER,
        "max_denoising_steps": STEPS,
        "sampler_config": {
            "_cls_name": "EntropyBoundSamplerConfig",
            "entropy_bound": ENTROPY_BOUND,
        },
        "eos_token_id": 1,
    }
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


def make_artifact(folder: Path, model: Path, *, steps: int = STEPS) -> Artifact:
    """Save an artifact for that model; its levels range over the scores it is known to give."""
    worst = np.linspace(-0.25, 0.1, 199, dtype=np.float32)
    alpha = 0.3
    made = Artifact(
        Manifest(
            created=datetime(2026, 1, 1, tzinfo=UTC),
            stopper_version="0.1.0",
            model=ModelFingerprint(
                model=str(model),
                architecture="DiffusionGemmaForBlockDiffusion",
                hidden_size=HIDDEN,
                num_layers=LAYERS,
                vocab_size=VOCABULARY,
                dtype="float32",
                tokenizer_sha256=str(hashes(model)["tokenizer_sha256"]),
            ),
            halting=HaltingSpec(
                **RULE.to_json(),
                sampler=SamplerSpec(
                    steps=steps,
                    block_length=CANVAS,
                    canvas_length=CANVAS,
                    order="entropy_bound",
                    options={**SAMPLER, "entropy_bound": ENTROPY_BOUND},
                ),
            ),
            calibration=CalibrationRecord(
                method="crc",
                loss="disagree",
                alpha=alpha,
                n_units=len(worst),
                n_traces=len(worst),
                n_cues=STEPS * len(worst),
                threshold=threshold(worst, alpha, "crc", 0.9),
                promise="none: these scores were made up for a test",
            ),
        ),
        worst_scores=worst,
    )
    made.save(folder)
    return made
