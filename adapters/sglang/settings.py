"""What the operator asks for: the `stopper` object in `--dllm-algorithm-config`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.sglang.blocks import BlockHalting
from stopper.artifact import Artifact
from stopper.errors import ArtifactError, InputError
from stopper.halting import NO_GUARANTEE, HaltingRule
from stopper.halting_policy import HaltingPolicy

logger = logging.getLogger(__name__)


class SglangSettings(BaseModel):
    """An artifact and an alpha, or a hand-picked halting rule, which promises nothing.

    Attributes
    ----------
    artifact
        Folder that `stopper diffusion calibrate` wrote.
    alpha
        Share of requests that may be halted badly; None takes the artifact's own.
    halting
        Fields of :class:`stopper.halting.HaltingRule`, or a `preset`.

    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    artifact: Path | None = None
    alpha: float | None = Field(default=None, gt=0.0, lt=1.0)
    halting: dict[str, Any] | None = None


def block_halting(config: Mapping[str, Any], *, block_size: int, threshold: float) -> BlockHalting:
    """Read the algorithm's configuration.

    Parameters
    ----------
    config
        The YAML mapping.
    block_size, threshold
        SGLang's own: positions of a block, and the probability above which a token is filled in.

    Raises
    ------
    InputError
        If `stopper` is missing, unknown keys or bad values are in it, or it asks for both or none.
    ArtifactError, TooFewTraces
        If the artifact promises nothing here.

    """
    raw = config.get("stopper")
    if not isinstance(raw, Mapping):
        raise InputError(
            "--dllm-algorithm-config: has no 'stopper' object; give it an 'artifact', or a "
            "'halting' rule without a promise"
        )
    try:
        settings = SglangSettings.model_validate(dict(raw))
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()
        )
        raise InputError(f"--dllm-algorithm-config stopper: {faults}") from None
    if (settings.artifact is None) == (settings.halting is None):
        raise InputError("--dllm-algorithm-config stopper: give either 'artifact' or 'halting'")
    if settings.artifact is None:
        if settings.alpha is not None:
            raise InputError("alpha: a hand-picked halting rule keeps none; leave it out")
        rule = HaltingRule.from_json(settings.halting)
        logger.warning("stopper: %s (%s)", NO_GUARANTEE, rule)
        return BlockHalting(rule, np.float32(0.0))
    return _promised(settings.artifact, settings.alpha, block_size, threshold)


def _promised(folder: Path, asked: float | None, block_size: int, threshold: float) -> BlockHalting:
    policy = HaltingPolicy.from_artifact(Artifact.load(folder))
    sampler = policy.spec.sampler
    here = {"block_length": block_size, "order": "confidence", "threshold": threshold}
    made = {
        "block_length": sampler.block_length,
        "order": sampler.order,
        "threshold": sampler.options.get("threshold"),
    }
    differing = [
        f"{name} is {here[name]!r}, expected {made[name]!r}"
        for name in here
        if here[name] != made[name]
    ]
    if policy.spec.progress != "block":
        differing.append("progress is over the block, expected the canvas")
    if sampler.steps != sampler.block_length:
        differing.append("steps of a block are its masks here, expected another number")
    if differing:
        raise ArtifactError(
            f"{folder}: calibrated under other sampler settings than this engine's: "
            f"{'; '.join(differing)}. Set them alike, or calibrate under these"
        )
    alpha = policy.alpha if asked is None else asked
    policy.require(alpha)
    return BlockHalting(policy.rule, policy.level(alpha))
