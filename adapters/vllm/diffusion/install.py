"""Puts stopper before the sampler of a diffusion model that has just been loaded."""

from __future__ import annotations

import logging
from typing import Any

from adapters.vllm.diffusion.check import halting_policy
from adapters.vllm.diffusion.levels import Levels
from adapters.vllm.diffusion.sampler import HaltingSampler
from adapters.vllm.diffusion.sampler_settings import max_steps
from adapters.vllm.diffusion.session import DiffusionSession
from adapters.vllm.journal import Journal
from adapters.vllm.settings import PluginSettings
from stopper.artifact import Artifact
from stopper.errors import UnsupportedError
from stopper.halting import NO_GUARANTEE

logger = logging.getLogger(__name__)

#: What is read or written of vLLM's per-request state.
STATE = ("canvas", "argmax_canvas", "step", "is_encoder_phase", "max_steps", "max_denoising_steps")


def install(vllm_config: Any, runner: Any, *, reports: bool) -> DiffusionSession:
    """Wrap the runner's sampler and return the session that goes with it.

    Parameters
    ----------
    reports
        Whether this rank writes decisions down; the other tensor-parallel ranks decide alike.

    Raises
    ------
    UnsupportedError, ArtifactError, InputError
        The engine then does not start, and says why.

    """
    settings = PluginSettings.from_additional_config(vllm_config.additional_config)
    assert settings is not None
    sampler = runner.sampler
    states: Any = getattr(sampler, "diffusion_states", None)
    missing = [name for name in STATE if not hasattr(states, name)]
    if missing:
        raise UnsupportedError(
            f"the sampler {type(sampler).__name__} of this vLLM has no {', '.join(missing)} in "
            "its diffusion state, which stopper was made for; use vLLM 0.32 or 0.33"
        )
    if settings.artifact is None:
        rule, levels, name = settings.halting_rule(), Levels(None), "hand-picked"
    else:
        policy = halting_policy(settings, Artifact.load(settings.artifact))
        rule, levels = policy.rule, Levels(policy, settings.alpha)
        name = (settings.artifact_sha256 or "")[:16] or settings.artifact.name
    session = DiffusionSession(
        levels,
        max_steps=int(states.max_denoising_steps),
        artifact=name,
        journal=Journal(settings.decisions) if reports else None,
    )
    runner.sampler = HaltingSampler(sampler, rule, session)
    if int(states.max_denoising_steps) != max_steps(vllm_config):
        raise UnsupportedError(
            f"vLLM caps denoising at {states.max_denoising_steps} steps where its configuration "
            f"says {max_steps(vllm_config)}; use vLLM 0.32 or 0.33"
        )
    logger.info(
        "stopper: halting %s over %s, %s",
        rule.signal,
        rule.schedule,
        name if levels.promised else NO_GUARANTEE,
    )
    return session
