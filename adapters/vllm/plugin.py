"""Registers stopper with vLLM in every process: makes `--additional-config` work.

Installed, it is available; it does nothing unless `additional_config` has a `stopper` object.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from pathlib import Path
from typing import Any

from adapters.vllm.request_options import RequestOptions
from adapters.vllm.settings import PluginSettings
from probes.scorers import require_servable
from stopper.artifact import Artifact
from stopper.errors import ArtifactError, InputError, TooFewTraces, UnsupportedError
from stopper.manifest import Manifest
from stopper.policy import StopPolicy

logger = logging.getLogger(__name__)

WORKER = "adapters.vllm.worker.StopperWorker"


def register() -> None:
    """Wrap vLLM's configuration so that the `stopper` object in it is obeyed; idempotent."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.input_processor import InputProcessor

    if hasattr(EngineArgs.create_engine_config, "stopper_wraps"):
        return
    EngineArgs.create_engine_config = _configure(EngineArgs.create_engine_config)
    InputProcessor.process_inputs = _validate(InputProcessor.process_inputs)


def _configure(original: Any) -> Any:
    @functools.wraps(original)
    def create_engine_config(self: Any, *args: Any, **kwargs: Any) -> Any:
        settings = PluginSettings.from_additional_config(self.additional_config)
        if settings is None:
            return original(self, *args, **kwargs)
        if settings.artifact is not None:
            # vLLM hashes additional_config into its compile-cache key: another probe, another key.
            digest = _digest(settings.artifact)
            stopper = {**self.additional_config["stopper"], "artifact_sha256": digest}
            self.additional_config = {**self.additional_config, "stopper": stopper}
        asked_worker = self.worker_cls
        config = original(self, *args, **kwargs)
        check(config, settings, asked_worker)
        config.parallel_config.worker_cls = WORKER
        return config

    create_engine_config.stopper_wraps = original  # type: ignore[attr-defined]
    return create_engine_config


def _validate(original: Any) -> Any:
    from vllm.exceptions import VLLMValidationError

    @functools.wraps(original)
    def process_inputs(self: Any, *args: Any, **kwargs: Any) -> Any:
        additional = self.vllm_config.additional_config
        if isinstance(additional, dict) and "stopper" in additional:
            params = kwargs.get("params", args[2] if len(args) > 2 else None)
            try:
                options = RequestOptions.from_extra_args(getattr(params, "extra_args", None))
                if options.alpha is not None and additional["stopper"].get("halting") is not None:
                    raise InputError(
                        "vllm_xargs: the server's halting rule is hand-picked and keeps no alpha; "
                        "leave stopper_alpha out"
                    )
                if options.mode == "fixed" and additional["stopper"].get("threshold") is None:
                    raise InputError(
                        "vllm_xargs: stopper='fixed' needs 'threshold' in the server's settings"
                    )
            except InputError as error:
                # vLLM answers this one with HTTP 400, and a plain ValueError with 500.
                raise VLLMValidationError(str(error), parameter="vllm_xargs") from None
        return original(self, *args, **kwargs)

    return process_inputs


def check(vllm_config: Any, settings: PluginSettings, worker_cls: str) -> None:
    """Refuse what cannot keep the promise, before any weights are loaded.

    Raises
    ------
    UnsupportedError, ArtifactError, TooFewTraces
        One sentence each, with the remedy.

    """
    from adapters.vllm.compatibility import refusals, remote_refusals
    from adapters.vllm.diffusion import check as diffusion
    from adapters.vllm.fingerprint import engine_facts, model_fingerprint

    facts = engine_facts(vllm_config, worker_cls)
    artifact = None if settings.artifact is None else Artifact.load(settings.artifact)
    reasons: list[str] = []
    layers: tuple[int, ...] = ()
    if facts.diffusion:
        reasons += diffusion.refusals(
            facts, settings, str(vllm_config.model_config.architectures[0])
        )
    else:
        layers = _layers(settings, artifact)
    if artifact is not None:
        foreign = artifact.mismatches(model_fingerprint(vllm_config))
        if foreign:
            raise ArtifactError(
                f"{settings.artifact}: calibrated on another model than the one served: "
                f"{'; '.join(foreign)}. Collect, train and calibrate on this one"
            )
        served = {"vllm": facts.vllm_version, "runner": facts.runner, "device": facts.device}
        for remark in remarks(artifact.manifest, served):
            logger.warning("%s: %s", settings.artifact, remark)
    if not facts.diffusion:
        _check_promise(settings, artifact)
    elif not reasons:
        diffusion.check_promise(settings, vllm_config, artifact)
    reasons += refusals(facts, layers)
    if settings.remote is not None:
        settings.remote.api_key()
        reasons += remote_refusals(facts)
    if reasons:
        raise UnsupportedError("stopper cannot run in this engine: " + "; ".join(reasons))


def _layers(settings: PluginSettings, artifact: Artifact | None) -> tuple[int, ...]:
    """Return the layers that a reasoning model's probe reads, or refuse what has none."""
    if settings.halting is not None or (artifact and artifact.manifest.halting):
        raise UnsupportedError(
            "a halting rule is for a diffusion model, and the model served is none; give an "
            "artifact from `stopper train` and `stopper calibrate`"
        )
    if artifact is None:
        assert settings.collect is not None
        return settings.collect.layers
    if artifact.probe is None:
        raise ArtifactError(
            f"{settings.artifact}: made from your own scores, it has no probe; an engine "
            "needs an artifact from `stopper train` and `stopper calibrate`"
        )
    assert settings.artifact is not None
    return require_servable(artifact.probe, settings.artifact).spec.layers


def _check_promise(settings: PluginSettings, artifact: Artifact | None) -> None:
    """Refuse an artifact that promises nothing, or nothing at the server's alpha."""
    if artifact is None:
        return
    try:
        policy = StopPolicy.from_artifact(artifact)
    except ArtifactError as error:
        raise ArtifactError(f"{settings.artifact}: {error}") from None
    alpha = settings.alpha
    if alpha is not None and policy.threshold(alpha) == float("inf"):
        raise TooFewTraces(
            f"{settings.artifact}: {policy.worst_scores.size} calibration traces cannot "
            f"promise alpha {alpha}; nothing would ever be stopped. Calibrate with more "
            "traces or serve a larger alpha"
        )


def remarks(manifest: Manifest, served: dict[str, str]) -> list[str]:
    """Say what does not forbid to serve, but touches the promise: another engine, a date."""
    made = manifest.engine
    other = [
        f"{name} {made[name]}, here {here}"
        for name, here in served.items()
        if made.get(name) not in (None, here)
    ]
    found = []
    if other:
        found.append(
            f"calibrated on traces of another engine ({'; '.join(other)}): hidden states may "
            "differ a little, and the promise is for that one. Calibrate on traces of this one"
        )
    if manifest.expires is not None:
        found.append(
            f"its promise ends on {manifest.expires:%Y-%m-%d %H:%M %Z}; a running engine looks at "
            "that only when it starts. Renew it and restart before"
        )
    return found


def _digest(artifact: Path) -> str:
    # The manifest holds the hashes of all other files.
    try:
        return hashlib.sha256((artifact / "manifest.json").read_bytes()).hexdigest()
    except OSError as error:
        raise ArtifactError(
            f"{artifact / 'manifest.json'}: {error.strerror}; give the folder that "
            "`stopper calibrate` wrote"
        ) from None
