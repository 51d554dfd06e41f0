"""Reads from vLLM's configuration who the model is and how the engine runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapters.vllm.compatibility import EngineFacts
from probes.provenance import ModelFingerprint, fingerprint_files, hub_identity
from stopper.errors import UnsupportedError


def model_fingerprint(vllm_config: Any) -> ModelFingerprint:
    """Return the identity of the model that this configuration serves.

    Raises
    ------
    UnsupportedError
        If the tokenizer has no `tokenizer.json`, so that cues could not be matched by id.

    """
    model = vllm_config.model_config
    files = fingerprint_files(tokenizer_folder(model))
    name, revision = hub_identity(str(model.model), model.revision)
    return ModelFingerprint(
        model=name,
        architecture=str(model.architectures[0]),
        hidden_size=int(model.get_hidden_size()),
        num_layers=num_layers(vllm_config),
        vocab_size=int(model.get_vocab_size()),
        dtype=str(model.dtype).removeprefix("torch."),
        quantization=model.quantization,
        tokenizer_sha256=str(files["tokenizer_sha256"]),
        chat_template_sha256=files["chat_template_sha256"],
        revision=_cached_commit(name, revision),
    )


def _cached_commit(model: str, revision: str | None) -> str | None:
    """Return the commit that the hub's cache has for a revision; else the revision as it is."""
    if Path(model).is_dir() or model.count("/") != 1:
        return revision
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, "config.json", revision=revision)
    if not isinstance(found, str):
        return revision
    return hub_identity(str(Path(found).parent), revision)[1]


def tokenizer_folder(model_config: Any) -> Path:
    """Return the local folder of the tokenizer, which for a hub id is in the hub's cache."""
    folder = Path(model_config.tokenizer)
    if folder.is_dir():
        return folder
    from transformers.utils import cached_file

    try:
        found = cached_file(
            model_config.tokenizer, "tokenizer.json", revision=model_config.tokenizer_revision
        )
    except OSError as error:
        raise UnsupportedError(
            f"{model_config.tokenizer}: no tokenizer.json ({error}); stopper matches cues by "
            "token id and needs a fast tokenizer"
        ) from None
    return Path(found).parent


def num_layers(vllm_config: Any) -> int:
    """Return the number of blocks of the whole model, over all pipeline stages."""
    return int(vllm_config.model_config.get_total_num_hidden_layers())


def engine_facts(vllm_config: Any, worker_cls: str) -> EngineFacts:
    """Collect what `compatibility.refusals` judges."""
    from vllm import __version__
    from vllm.platforms import current_platform

    parallel, model = vllm_config.parallel_config, vllm_config.model_config
    speculative = vllm_config.speculative_config
    return EngineFacts(
        vllm_version=__version__.split("+")[0],
        runner="v2" if vllm_config.use_v2_model_runner else "v1",
        device="cuda" if current_platform.is_cuda_alike() else current_platform.device_type,
        worker_cls=worker_cls,
        num_layers=num_layers(vllm_config),
        runner_type=model.runner_type,
        speculative_method=speculative.method if speculative else None,
        adaptive_verification=bool(
            speculative and getattr(speculative, "enable_adaptive_verification", False)
        ),
        tensor_parallel=parallel.tensor_parallel_size,
        pipeline_parallel=parallel.pipeline_parallel_size,
        prefill_context_parallel=parallel.prefill_context_parallel_size,
        batch_sharded_sampling=bool(parallel.enable_batch_sharded_sampling),
        diffusion=bool(getattr(model, "is_diffusion", False)),
        mrope=bool(model.uses_mrope),
        watermark=getattr(vllm_config, "watermark_config", None) is not None,
        microbatches=bool(parallel.use_ubatching),
    )
