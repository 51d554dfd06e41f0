"""How vLLM's DiffusionGemma decodes, in the words of an artifact."""

from __future__ import annotations

from typing import Any

from stopper.manifest import SamplerSpec

#: The keys of generation_config.json that vLLM 0.32 and 0.33 read; their values change the tokens.
READ = ("t_min", "t_max", "confidence_threshold", "stability_threshold")

DEFAULT_STEPS = 48
"""vLLM's, where neither the engine's nor the model's configuration names a number."""


def max_steps(vllm_config: Any) -> int:
    """Return the server's cap on denoising steps of a canvas, as vLLM finds it."""
    asked = vllm_config.diffusion_config.max_denoising_steps
    if asked:
        return int(asked)
    found = vllm_config.model_config.try_get_generation_config()
    return int(found.get("max_denoising_steps", DEFAULT_STEPS))


def sampler_settings(vllm_config: Any) -> SamplerSpec:
    """Return the sampler's settings; a promise holds for these alone."""
    generation = vllm_config.model_config.try_get_generation_config()
    options = {name: generation.get(name) for name in READ}
    options["entropy_bound"] = (generation.get("sampler_config") or {}).get("entropy_bound")
    length = int(vllm_config.diffusion_config.canvas_length)
    return SamplerSpec(
        steps=max_steps(vllm_config),
        block_length=length,
        canvas_length=length,
        order="entropy_bound",
        options=options,
    )
