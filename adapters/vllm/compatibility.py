"""Which engine settings stopper cannot keep its promise under. Pure: facts in, reasons out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

SUPPORTED_VLLM = (Version("0.32.0"), Version("0.34.0"))


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """An engine's configuration, as far as it matters here; read by `fingerprint.engine_facts`."""

    vllm_version: str
    runner: str  # "v1" | "v2"
    device: str  # "cpu" | "cuda" | ...
    worker_cls: str
    num_layers: int
    runner_type: str = "generate"
    speculative_method: str | None = None
    adaptive_verification: bool = False
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    prefill_context_parallel: int = 1
    batch_sharded_sampling: bool = False
    diffusion: bool = False
    mrope: bool = False
    watermark: bool = False
    microbatches: bool = False


#: Speculative methods that take the model's auxiliary hidden states for themselves.
_OWN_AUX_LAYERS = {"eagle3", "dflash", "dspark", "extract_hidden_states"}


def refusals(facts: EngineFacts, layers: tuple[int, ...]) -> list[str]:
    """Say why this engine cannot run stopper with these probe layers; empty if it can."""
    return list(_refusals(facts, layers))


def remote_refusals(facts: EngineFacts) -> list[str]:
    """Say why this engine cannot leave its decisions to a sidecar; empty if it can."""
    found = []
    if facts.speculative_method is not None:
        found.append(
            f"remote mode beside speculative decoding ({facts.speculative_method}): a cue may be "
            "in a draft that is rejected, and what the sidecar was told cannot be taken back; turn "
            "one of them off"
        )
    if facts.tensor_parallel > 1 or facts.pipeline_parallel > 1:
        found.append(
            "remote mode with several ranks: an answer reaches each at another step, and they must "
            "decide alike; set tensor and pipeline parallelism to 1, or leave 'remote' out"
        )
    return found


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:  # "dev": built from source without its history
        return Version("0")


def _refusals(facts: EngineFacts, layers: tuple[int, ...]) -> Iterator[str]:
    low, high = SUPPORTED_VLLM
    if not low <= _version(facts.vllm_version) < high:
        yield (
            f"vLLM {facts.vllm_version} is outside {low} <= version < {high}, whose inner hooks "
            "this stopper was checked against; install one in that range"
        )
    if facts.device not in ("cpu", "cuda"):
        yield f"device {facts.device!r}: only CPU and CUDA/ROCm workers are supported"
    if facts.worker_cls != "auto":
        yield f"--worker-cls {facts.worker_cls}: stopper brings its own worker; leave it at auto"
    if facts.runner_type != "generate":
        yield f"a {facts.runner_type} model generates no thinking that could be stopped"
    if facts.batch_sharded_sampling:
        yield ("--enable-batch-sharded-sampling splits a request's state over ranks; turn it off")
    if facts.prefill_context_parallel > 1:
        yield "prefill context parallelism reorders the rows stopper reads; set it to 1"
    if facts.adaptive_verification:
        yield "adaptive verification compacts logit rows on the device; turn it off"
    if facts.watermark:
        yield "the watermarking sampler has not been checked with stopper; turn it off"
    if facts.microbatches:
        yield "dual-batch overlap splits the rows stopper reads; turn it off"
    if facts.mrope and facts.runner == "v1":
        yield "multi-axis rotary positions (mrope) under the V1 runner; use the V2 runner"
    beyond = [layer for layer in layers if layer > facts.num_layers]
    if beyond:
        yield f"the probe reads layers {beyond}, the model has {facts.num_layers}"
    inner = [layer for layer in layers if layer < facts.num_layers]
    if inner and facts.speculative_method in _OWN_AUX_LAYERS:
        yield (
            f"speculative method {facts.speculative_method!r} uses the auxiliary hidden states "
            f"for itself, the probe reads layers {inner}; train a probe on the last layer only"
        )
    if inner and facts.pipeline_parallel > 1:
        yield (
            f"under pipeline parallelism only the last stage samples and the probe reads layers "
            f"{inner}; train a probe on the last layer only"
        )
