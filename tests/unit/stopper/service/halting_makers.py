"""Artifacts of a diffusion model, with a halting rule in place of probe and cues."""

from __future__ import annotations

from typing import Any

import makers
import numpy as np

from stopper.artifact import Artifact
from stopper.halting import HaltingRule
from stopper.manifest import HaltingSpec, SamplerSpec

SAMPLER = SamplerSpec(steps=8, block_length=8, canvas_length=16, order="confidence")
SHAPE = {"kind": "linear", "high": 7.5, "low": 2.5, "aggregate": "median", "region": "masked"}


def halting_artifact(*, calibration: dict[str, Any] | None = None, **shape: Any) -> Artifact:
    """Make an artifact; `shape` is the rule's, the worst scores are those of `makers`."""
    rule = HaltingRule.from_json(SHAPE | shape)
    made = makers.artifact(
        probe=None, cues=None, closing=None, halting=HaltingSpec(**rule.to_json(), sampler=SAMPLER)
    )
    if calibration is None:
        return made
    record = makers.calibration(makers.worst_scores(), **calibration)
    manifest = made.manifest.model_copy(update={"calibration": record})
    # The levels that were tested; of no concern here, but such an artifact has some.
    tested = {"levels": np.zeros(3, dtype=np.float32)}
    return Artifact(manifest, splits=made.splits, calibration_tensors=tested)
