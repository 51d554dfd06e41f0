"""Folders of LLaDA and Dream checkpoints, read and written without running the code in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from adapters.transformers.identity import end_ids, fingerprint, read_object
from adapters.transformers.layouts import (
    dream_settings,
    llada_name,
    llada_settings,
    llama_name,
    llama_settings,
    qwen2_settings,
)
from adapters.transformers.model import DiffusionLM
from stopper.errors import InputError, UnsupportedError

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """One published format: how its settings and weights become a transformers model."""

    settings: Callable[[Mapping[str, Any]], Json]
    config: Any
    network: Any
    rename: Callable[[str], str | None]
    shifted: bool


LAYOUTS = {
    "llada": Layout(llama_settings, LlamaConfig, LlamaForCausalLM, llama_name, shifted=False),
    "Dream": Layout(qwen2_settings, Qwen2Config, Qwen2ForCausalLM, str, shifted=True),
}


def load(
    folder: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> DiffusionLM:
    """Load a LLaDA or Dream checkpoint as the Llama or Qwen2 that it is.

    Parameters
    ----------
    folder
        With ``config.json`` and ``model.safetensors``, or the shards that
        ``model.safetensors.index.json`` names.
    device
        Where the weights go, one tensor after the other.
    dtype
        None keeps the weights' own.

    Raises
    ------
    InputError
        If a file is missing, unreadable or lacks a weight.
    UnsupportedError
        If the folder holds another kind of model, or a variant that cannot be built.

    """
    folder = Path(folder)
    settings = read_object(folder / "config.json")
    kind = settings.get("model_type")
    layout = LAYOUTS.get(str(kind))
    if layout is None:
        raise UnsupportedError(
            f"{folder}/config.json: model_type is {kind!r}; known are {', '.join(LAYOUTS)}. Other "
            "masked diffusion models can be wrapped by hand in DiffusionLM"
        )
    mask = settings.get("mask_token_id")
    if not isinstance(mask, int) or isinstance(mask, bool):
        raise UnsupportedError(
            f"{folder}/config.json: mask_token_id is {mask!r}; without the id of the mask token "
            "nothing can be denoised. Add the one the model was trained with"
        )
    config = layout.config(**layout.settings(settings))
    with torch.device("meta"):  # no time is lost on random weights that are overwritten at once
        network = layout.network(config)
    weights = _weights(folder, layout, torch.device(device), dtype)
    if config.tie_word_embeddings:
        weights.setdefault("lm_head.weight", weights.get("model.embed_tokens.weight"))
    _check(folder, network.state_dict(), weights)
    network.load_state_dict(weights, assign=True)
    network.tie_weights()
    # Its table of frequencies is no weight and stayed behind on the meta device.
    with torch.device(device):
        network.model.rotary_emb = type(network.model.rotary_emb)(config=config)
    return DiffusionLM(
        network,
        mask_token_id=mask,
        end_ids=end_ids(folder, settings),
        shifted=layout.shifted,
        name=str(folder),
        fingerprint=fingerprint(folder, settings, config, network.lm_head.weight.dtype),
    )


def export_llada(
    model: LlamaForCausalLM,
    folder: str | Path,
    mask_token_id: int,
    *,
    eos_token_id: int | None = None,
) -> None:
    """Write a Llama trained as a masked diffusion model as a folder in LLaDA's format.

    Parameters
    ----------
    model
        Its attention is taken to be bidirectional, whatever its class says.
    folder
        Made where it is missing; ``config.json`` and ``model.safetensors`` are written in it, in
        the dtype of the weights. Tokenizer files beside them are left alone.
    mask_token_id, eos_token_id
        Written in ``config.json``.

    Raises
    ------
    UnsupportedError
        If the Llama has what the format cannot say, such as biases.

    """
    settings = llada_settings(model.config.to_dict(), mask_token_id, eos_token_id)
    _export(model, Path(folder), settings, llada_name)


def export_dream(
    model: Qwen2ForCausalLM,
    folder: str | Path,
    mask_token_id: int,
    *,
    eos_token_id: int | None = None,
) -> None:
    """Write a Qwen2 whose state at p predicts p + 1 as a folder in Dream's format.

    Parameters and errors are those of `export_llada`.
    """
    settings = dream_settings(model.config.to_dict(), mask_token_id, eos_token_id)
    _export(model, Path(folder), settings, str)


def _export(model: Any, folder: Path, settings: Json, rename: Callable[[str], str]) -> None:
    weights = model.state_dict()
    if settings.get("weight_tying") or settings.get("tie_word_embeddings"):
        weights.pop("lm_head.weight", None)
    settings["torch_dtype"] = str(next(iter(weights.values())).dtype).removeprefix("torch.")
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    named = {rename(name): tensor.cpu().contiguous() for name, tensor in weights.items()}
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})


def _weights(
    folder: Path, layout: Layout, device: torch.device, dtype: torch.dtype | None
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in _shards(folder):
        try:
            with safe_open(path, framework="pt", device=str(device)) as file:
                for theirs in file.keys():  # noqa: SIM118 - it is no mapping
                    ours = layout.rename(theirs)
                    if ours is None:
                        raise UnsupportedError(
                            f"{path}: weight {theirs!r} has no place in a "
                            f"{layout.network.__name__}; this variant is not supported"
                        )
                    found[ours] = file.get_tensor(theirs).to(dtype)
        except (OSError, SafetensorError) as problem:
            raise InputError(f"{path}: {problem}. Download the checkpoint again") from None
    return found


def _shards(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        named = read_object(index).get("weight_map")
        if not isinstance(named, dict) or not all(isinstance(one, str) for one in named.values()):
            raise InputError(f"{index}: no weight_map of names to files. Download it again")
        files = [folder / name for name in sorted(set(named.values()))]
        outside = [file.name for file in files if file.parent != folder]
        if outside:
            raise InputError(f"{index}: names a file outside its folder ({outside[0]})")
    else:
        files = [folder / "model.safetensors"]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise InputError(
            f"{folder}: {', '.join(missing)} is missing. Only safetensors are read; convert "
            "pickled weights (.bin) first, on a machine that may run them"
        )
    return files


def _check(folder: Path, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    missing = sorted(set(wanted) - set(found))
    foreign = sorted(set(found) - set(wanted))
    if missing or foreign:
        raise InputError(
            f"{folder}: weights do not fit its config.json; missing {missing[:3]}, foreign "
            f"{foreign[:3]} ({len(missing)} and {len(foreign)} in all). Download it again"
        )
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            raise InputError(
                f"{folder}: {name} has shape {list(tensor.shape)}, its config.json asks for "
                f"{list(wanted[name].shape)}"
            )
