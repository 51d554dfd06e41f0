"""Builds a worker's `Session` and asks the model for the hidden states that the probe reads.

Runs once per worker between loading the weights and the first forward pass: whatever is asked of
the model here becomes part of the compiled graph and of the captured CUDA graphs.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from adapters.vllm.device_tracker import DeviceTracker
from adapters.vllm.device_watch import DeviceWatch
from adapters.vllm.fingerprint import num_layers
from adapters.vllm.host_tracker import HostTracker
from adapters.vllm.journal import Journal
from adapters.vllm.session import Session
from adapters.vllm.settings import PluginSettings, RemoteSettings
from adapters.vllm.watch import HostWatch, Watch
from probes.network import Probe
from probes.scorers import require_servable
from probes.shaping import weight_of
from probes.torch_network import TorchProbe
from stopper.artifact import Artifact
from stopper.cues import CueAutomaton, CueSpec
from stopper.errors import ArtifactError, UnsupportedError
from stopper.policy import StopPolicy

if TYPE_CHECKING:
    from adapters.vllm.diffusion.session import DiffusionSession

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Installed:
    """A worker's session and where its probe reads; a diffusion model has none."""

    session: Session | DiffusionSession
    layers: tuple[int, ...]
    num_layers: int
    diffusion: bool = False


@dataclass(frozen=True, slots=True)
class _Plan:
    """What serving and collecting need alike."""

    automaton: CueAutomaton
    layers: tuple[int, ...]
    probe: Probe | None
    policy: StopPolicy | None
    alpha: float | None
    force_ids: tuple[int, ...]
    answer_prompt: bool
    name: str
    model: str = ""


def install(vllm_config: Any, runner: Any, *, reports: bool) -> Installed:
    """Set up stopper in a worker whose model has just been loaded.

    Parameters
    ----------
    reports
        Whether this rank writes decisions down; the other tensor-parallel ranks decide alike.

    Raises
    ------
    UnsupportedError, ArtifactError
        The engine then does not start, and says why.

    """
    settings = PluginSettings.from_additional_config(vllm_config.additional_config)
    assert settings is not None
    if vllm_config.model_config.is_diffusion:
        from adapters.vllm.diffusion.install import install as install_halting

        halting = install_halting(vllm_config, runner, reports=reports)
        return Installed(halting, (), num_layers(vllm_config), diffusion=True)
    plan = (
        _collecting(settings.collect.cues, settings.collect.layers, vllm_config)
        if settings.collect
        else _serving(settings, vllm_config)
    )
    depth = num_layers(vllm_config)
    _expose_layers(runner, [layer for layer in plan.layers if layer < depth])
    fields: dict[str, Any] = {
        "alpha": plan.alpha,
        "fixed": settings.threshold,
        "answer_prompt": plan.answer_prompt,
        "labels": plan.automaton.labels,
        "artifact": plan.name,
        "journal": Journal(settings.decisions) if reports else None,
        "keeps": reports and (plan.policy is None or settings.keep_hidden),
    }
    if settings.remote is not None:
        session = _remote(plan, settings.remote, runner.device, fields)
    else:
        most = vllm_config.scheduler_config.max_num_seqs
        session = Session(_watch(plan, settings, runner.device, most), policy=plan.policy, **fields)
    logger.info(
        "stopper: %s%s, layers %s of %d, %s",
        "collecting cues" if plan.policy is None else f"alpha {plan.alpha}",
        f", decided by {settings.remote.url}" if settings.remote else "",
        list(plan.layers),
        depth,
        plan.name,
    )
    if settings.threshold is not None:
        logger.warning(
            "stopper: requests in mode 'fixed' are stopped above the fixed threshold %g, "
            "which promises nothing",
            settings.threshold,
        )
    return Installed(session, plan.layers, depth)


def _collecting(spec: CueSpec, layers: tuple[int, ...], vllm_config: Any) -> _Plan:
    from vllm.tokenizers import cached_tokenizer_from_config

    tokenizer = cached_tokenizer_from_config(model_config=vllm_config.model_config)
    automaton = CueAutomaton.build(tokenizer, spec)
    return _Plan(automaton, layers, None, None, None, (), False, "collection")


def _serving(settings: PluginSettings, vllm_config: Any) -> _Plan:
    assert settings.artifact is not None
    artifact = Artifact.load(settings.artifact)
    record, closing = artifact.manifest.calibration, artifact.manifest.closing
    if artifact.cues is None or artifact.probe is None or closing is None or record is None:
        raise ArtifactError(
            f"{settings.artifact}: has no probe or no promise; an engine needs an artifact from "
            "`stopper train` and `stopper calibrate`, not one made from your own scores"
        )
    alpha = settings.alpha if settings.alpha is not None else record.alpha
    return _Plan(
        automaton=artifact.cues,
        layers=artifact.probe.spec.layers,
        probe=require_servable(artifact.probe, settings.artifact),
        policy=StopPolicy.from_artifact(artifact),
        alpha=alpha,
        force_ids=(*_end_ids(vllm_config, closing.end_ids), *closing.answer_prompt_ids),
        answer_prompt=bool(closing.answer_prompt_ids),
        name=(settings.artifact_sha256 or "")[:16] or settings.artifact.name,
        model=artifact.manifest.model.model if artifact.manifest.model else "",
    )


def _end_ids(vllm_config: Any, calibrated: tuple[int, ...]) -> tuple[int, ...]:
    """Prefer the artifact's own closing: the forced answers were collected with it.

    vLLM's reasoning config is checked against it, so that its parser finds the end it looks for.
    """
    reasoning = vllm_config.reasoning_config
    natural = getattr(reasoning, "natural_reasoning_end_token_ids", None) if reasoning else None
    if natural and not _contains(calibrated, tuple(natural)):
        raise UnsupportedError(
            f"the reasoning parser looks for token ids {list(natural)}, the artifact closes the "
            f"thinking with {list(calibrated)}; collect again with this parser's markers"
        )
    return calibrated


def _contains(ids: tuple[int, ...], part: tuple[int, ...]) -> bool:
    return any(ids[at : at + len(part)] == part for at in range(len(ids) - len(part) + 1))


def _expose_layers(runner: Any, inner: list[int]) -> None:
    """Make the model return the residual stream after these blocks as a graph output."""
    if not inner:
        return
    from vllm.model_executor.models.interfaces import supports_eagle3

    model = runner.get_model()
    if not supports_eagle3(model):
        raise UnsupportedError(
            f"{type(model).__name__} cannot return inner hidden states in vLLM (it lacks "
            f"SupportsEagle3) and the probe reads layers {inner}; train a probe on the last "
            "layer only: `stopper train --layers last`"
        )
    if runner.use_aux_hidden_state_outputs:
        raise UnsupportedError(
            f"another feature of this engine uses the auxiliary hidden states already and the "
            f"probe reads layers {inner}; train a probe on the last layer only"
        )
    model.set_aux_hidden_state_layers(tuple(inner))
    runner.use_aux_hidden_state_outputs = True


def _remote(
    plan: _Plan, settings: RemoteSettings, device: torch.device, fields: dict[str, Any]
) -> Session:
    from adapters.vllm.remote.connection import Connection
    from adapters.vllm.remote.sender import Sender
    from adapters.vllm.remote.session import RemoteSession
    from adapters.vllm.remote.tracker import RemoteTracker
    from adapters.vllm.remote.watch import RemoteWatch

    assert plan.probe is not None
    if device.type != "cpu":
        logger.warning(
            "stopper: remote mode reads tokens on the host, so that every step waits for the "
            "device; decisions in the engine ('remote' left out) never do"
        )
    sender = Sender(
        Connection(settings.url, settings.api_key()),
        capacity=settings.queue,
        version=plan.name if settings.same_artifact else None,
    )
    tracker = RemoteTracker(
        plan.automaton,
        plan.probe,
        rise_weight=weight_of(plan.probe.spec),
        force_ids=plan.force_ids,
        sender=sender,
        model=settings.model or plan.model,
        deadline_s=settings.deadline_ms / 1e3,
    )
    return RemoteSession(RemoteWatch(tracker), sender, **fields)


def _watch(plan: _Plan, settings: PluginSettings, device: torch.device, max_seqs: int) -> Watch:
    weight = weight_of(plan.probe.spec) if plan.probe else 0.0
    kind = settings.tracker
    if kind == "auto":
        # Only the host keeps hidden states; a collection may wait for them, serving may not.
        kind = "host" if device.type == "cpu" else "device"
    if kind == "host" or plan.probe is None or settings.keep_hidden:
        return HostWatch(
            HostTracker(
                plan.automaton,
                plan.probe,
                rise_weight=weight,
                force_ids=plan.force_ids,
                keep_hidden=plan.probe is None or settings.keep_hidden,
            )
        )
    tracker = DeviceTracker(
        plan.automaton,
        TorchProbe(plan.probe, device),
        rise_weight=weight,
        force_ids=plan.force_ids,
        slots=2 * max_seqs,
        device=device,
    )
    return DeviceWatch(tracker, plan.automaton.prompt_state)
