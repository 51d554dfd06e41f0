"""What is refused at start on a diffusion model, and what of a diffusion model elsewhere."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from makers import artifact, calibration, fingerprint

from adapters.vllm.compatibility import EngineFacts
from adapters.vllm.diffusion.check import ARCHITECTURE, check_promise, refusals
from adapters.vllm.diffusion.install import install
from adapters.vllm.diffusion.sampler_settings import max_steps, sampler_settings
from adapters.vllm.plugin import _layers
from adapters.vllm.settings import PluginSettings
from stopper.artifact import Artifact, Manifest
from stopper.errors import ArtifactError, InputError, TooFewTraces, UnsupportedError
from stopper.halting import PRESETS, HaltingRule
from stopper.manifest import HaltingSpec

FACTS = EngineFacts("0.32.0", "v2", "cuda", "auto", 30, diffusion=True)
PICKED = PluginSettings(halting={"preset": "sched-exp-16", "region": "span"})
FOLDER = Path("artifact")
GENERATION = {
    "max_denoising_steps": 12,
    "t_min": 0.4,
    "t_max": 0.8,
    "confidence_threshold": 0.005,
    "stability_threshold": 1,
    "sampler_config": {"_cls_name": "EntropyBoundSamplerConfig", "entropy_bound": 0.1},
}


def config(steps: int | None = None, **generation: Any) -> Any:
    """The part of vLLM's configuration that is read."""
    return SimpleNamespace(
        diffusion_config=SimpleNamespace(canvas_length=256, max_denoising_steps=steps),
        model_config=SimpleNamespace(
            try_get_generation_config=lambda: GENERATION | generation, is_diffusion=True
        ),
        additional_config={"stopper": {"halting": {}}},
    )


def halting_artifact(n: int = 99, **changes: Any) -> Artifact:
    worst = np.linspace(0, 1, n, dtype=np.float32)
    spec = {**HaltingRule().to_json(), "sampler": sampler_settings(config())} | changes
    return Artifact(
        Manifest(
            created=artifact().manifest.created,
            stopper_version="0.1.0",
            model=fingerprint(),
            halting=HaltingSpec(**spec),
            calibration=calibration(worst, method="crc", confidence=None),
        ),
        worst_scores=worst,
    )


def test_a_diffusion_gemma_under_v2_is_served() -> None:
    assert refusals(FACTS, PICKED, ARCHITECTURE) == []
    assert refusals(replace(FACTS, tensor_parallel=2), PICKED, ARCHITECTURE) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"runner": "v1"}, "V1 runner.*VLLM_USE_V2_MODEL_RUNNER"),
        ({"pipeline_parallel": 2}, "pipeline parallelism.*set it to 1"),
    ],
    ids=["v1", "pipeline"],
)
def test_other_engines_are_refused_with_a_remedy(changes: dict[str, Any], words: str) -> None:
    (reason,) = refusals(replace(FACTS, **changes), PICKED, ARCHITECTURE)
    assert re.search(words, reason)


def test_other_diffusion_models_are_refused_by_name() -> None:
    (reason,) = refusals(FACTS, PICKED, "LLaDA2MoeModelLM")
    assert "LLaDA2MoeModelLM" in reason


@pytest.mark.parametrize(
    "settings",
    [
        {"tracker": "host"},
        {"threshold": 0.5},
        {"keep_hidden": True},
        {"remote": {"url": "http://x"}},
    ],
    ids=["tracker", "threshold", "keep_hidden", "remote"],
)
def test_settings_of_reasoning_models_are_refused(settings: dict[str, Any]) -> None:
    (reason,) = refusals(FACTS, PluginSettings(halting={}, **settings), ARCHITECTURE)
    assert reason.startswith(next(iter(settings)))


def test_a_reasoning_artifact_is_refused_on_a_diffusion_model() -> None:
    with pytest.raises(ArtifactError, match=r"artifact: .*no halting rule.*reasoning model"):
        check_promise(PluginSettings(artifact=FOLDER), config(), artifact())


def test_a_halting_rule_is_refused_on_a_reasoning_model() -> None:
    with pytest.raises(UnsupportedError, match="halting rule is for a diffusion model"):
        _layers(PluginSettings(artifact=FOLDER), halting_artifact())
    with pytest.raises(UnsupportedError, match="halting rule is for a diffusion model"):
        _layers(PICKED, None)


def test_a_fitting_artifact_is_taken() -> None:
    check_promise(PluginSettings(artifact=FOLDER), config(), halting_artifact())
    check_promise(PluginSettings(artifact=FOLDER, alpha=0.5), config(), halting_artifact())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (config(steps=48), "steps is 48, expected 12"),
        (config(t_max=1.0), "options is .*1.0"),
    ],
    ids=["steps", "temperature"],
)
def test_a_promise_holds_for_its_own_sampler_settings_alone(changed: Any, words: str) -> None:
    with pytest.raises(ArtifactError, match=words):
        check_promise(PluginSettings(artifact=FOLDER), changed, halting_artifact())


def test_progress_over_a_request_of_unknown_length_is_refused() -> None:
    with pytest.raises(ArtifactError, match="number of canvases"):
        check_promise(
            PluginSettings(artifact=FOLDER), config(), halting_artifact(progress="canvas")
        )


def test_an_alpha_that_needs_more_traces_is_refused() -> None:
    with pytest.raises(TooFewTraces, match="artifact: "):
        check_promise(PluginSettings(artifact=FOLDER, alpha=0.001), config(), halting_artifact())


def test_a_hand_picked_rule_is_served_with_a_warning_and_keeps_no_alpha(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        check_promise(PICKED, config(), None)
    assert "no guarantee" in caplog.text
    with pytest.raises(InputError, match="keeps none"):
        check_promise(PluginSettings(halting={}, alpha=0.1), config(), None)


def test_a_hand_picked_rule_is_read_at_once() -> None:
    assert PICKED.halting_rule().schedule == PRESETS["sched-exp-16"].schedule
    assert PICKED.halting_rule().region == "span"
    for wrong in ({"kind": "steep"}, {"hight": 7.5}, {"high": "much"}, {"preset": "best"}):
        with pytest.raises(InputError, match="halting"):
            PluginSettings.from_additional_config({"stopper": {"halting": wrong}})
    with pytest.raises(InputError, match="only one of them"):
        PluginSettings.from_additional_config({"stopper": {"halting": {}, "artifact": "x"}})


def test_the_cap_on_steps_is_the_engine_s_else_the_model_s() -> None:
    assert max_steps(config(steps=5)) == 5
    assert max_steps(config()) == 12
    bare = config()
    bare.model_config.try_get_generation_config = dict
    assert max_steps(bare) == 48


def test_a_vllm_with_another_diffusion_state_is_refused() -> None:
    runner = SimpleNamespace(sampler=SimpleNamespace(diffusion_states=SimpleNamespace(step=1)))
    with pytest.raises(UnsupportedError, match=r"max_steps.*vLLM 0.32 or 0.33"):
        install(config(), runner, reports=True)
