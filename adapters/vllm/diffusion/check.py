"""What of a diffusion model's configuration stopper refuses at start; `plugin` checks the rest."""

from __future__ import annotations

import logging
from typing import Any

from adapters.vllm.compatibility import EngineFacts
from adapters.vllm.diffusion.sampler_settings import sampler_settings
from adapters.vllm.settings import PluginSettings
from stopper.artifact import Artifact
from stopper.errors import ArtifactError, InputError, TooFewTraces
from stopper.halting import NO_GUARANTEE
from stopper.halting_policy import HaltingPolicy

logger = logging.getLogger(__name__)

ARCHITECTURE = "DiffusionGemmaForBlockDiffusion"


def refusals(facts: EngineFacts, settings: PluginSettings, architecture: str) -> list[str]:
    """Say why this engine cannot run stopper on its diffusion model; empty if it can. Pure."""
    found = _foreign(settings)
    if architecture != ARCHITECTURE:
        found.append(
            f"diffusion model {architecture}: only {ARCHITECTURE} has been looked at in vLLM; "
            "leave 'stopper' out"
        )
    if facts.runner != "v2":
        found.append(
            "a diffusion model under the V1 runner; unset VLLM_USE_V2_MODEL_RUNNER, or set it to 1"
        )
    if facts.pipeline_parallel > 1:
        found.append(
            "pipeline parallelism on a diffusion model: only the last stage has its canvases; set "
            "it to 1"
        )
    return found


def _foreign(settings: PluginSettings) -> list[str]:
    """Name the settings that mean nothing on a diffusion model."""
    foreign = {
        "tracker": settings.tracker != "auto",
        "threshold": settings.threshold is not None,
        "keep_hidden": settings.keep_hidden,
        "remote": settings.remote is not None,
        "collect": settings.collect is not None,
    }
    return [
        f"{name} is for reasoning models and the one served is a diffusion model; leave it out"
        for name, given in foreign.items()
        if given
    ]


def check_promise(settings: PluginSettings, vllm_config: Any, artifact: Artifact | None) -> None:
    """Refuse an artifact that promises nothing here, and say so where nothing is promised.

    Raises
    ------
    ArtifactError, InputError, TooFewTraces
        One sentence each, with the remedy.

    """
    if artifact is None:
        rule = settings.halting_rule()
        logger.warning("stopper: %s (%s)", NO_GUARANTEE, rule)
        if settings.alpha is not None:
            raise InputError(
                "alpha: a hand-picked halting rule keeps none; leave it out, or give an artifact"
            )
        return
    policy = halting_policy(settings, artifact)
    differing = policy.spec.sampler.mismatches(sampler_settings(vllm_config))
    if differing:
        raise ArtifactError(
            f"{settings.artifact}: calibrated under other sampler settings than this engine's: "
            f"{'; '.join(differing)}. Set them alike, or calibrate under these"
        )
    if policy.spec.progress != "block":
        raise ArtifactError(
            f"{settings.artifact}: progress is counted over the whole request, whose number of "
            "canvases nobody knows ahead; calibrate with progress 'block'"
        )
    try:
        policy.require(policy.alpha if settings.alpha is None else settings.alpha)
    except (TooFewTraces, InputError) as error:
        raise type(error)(f"{settings.artifact}: {error}") from None


def halting_policy(settings: PluginSettings, artifact: Artifact) -> HaltingPolicy:
    """Return an artifact's policy, or say that it has none for a diffusion model."""
    try:
        return HaltingPolicy.from_artifact(artifact)
    except ArtifactError as error:
        raise ArtifactError(f"{settings.artifact}: {error}") from None
