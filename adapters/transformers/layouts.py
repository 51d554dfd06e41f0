"""How LLaDA and Dream name their settings and weights, as transformers names them. Pure.

LLaDA (``model_type`` "llada", GSAI-ML/LLaDA-8B-*) is a Llama under OLMo's names; Dream
(``model_type`` "Dream", Dream-org/Dream-v0-*) is a Qwen2 under Qwen2's own. The facts are those of
their published ``config.json`` and weight indices; none of their code is run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stopper.errors import UnsupportedError

Json = dict[str, Any]

_LLADA_BLOCK = {
    "attn_norm": "input_layernorm",
    "ff_norm": "post_attention_layernorm",
    "q_proj": "self_attn.q_proj",
    "k_proj": "self_attn.k_proj",
    "v_proj": "self_attn.v_proj",
    "attn_out": "self_attn.o_proj",
    "ff_proj": "mlp.gate_proj",
    "up_proj": "mlp.up_proj",
    "ff_out": "mlp.down_proj",
}
_LLADA_REST = {
    "model.transformer.wte.weight": "model.embed_tokens.weight",
    "model.transformer.ln_f.weight": "model.norm.weight",
    "model.transformer.ff_out.weight": "lm_head.weight",
}
_BLOCK = re.compile(r"model\.transformer\.blocks\.(\d+)\.(\w+)\.weight")
_LAYER = re.compile(r"model\.layers\.(\d+)\.([\w.]+)\.weight")

# What a Llama cannot do: the value it must have, and what it would be for if it had another.
_LLADA_FIXED: Json = {
    "block_type": "llama",
    "block_group_size": 1,
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "activation_type": "silu",
    "rope": True,
    "alibi": False,
    "attention_layer_norm": False,
    "include_bias": False,
    "include_qkv_bias": False,
    "bias_for_layer_norm": False,
    "input_emb_norm": False,
    "scale_logits": False,
}
_DREAM_SAME = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "rms_norm_eps",
    "max_position_embeddings",
    "tie_word_embeddings",
)
_LLADA_DEFAULTS: Json = {  # of LLaDA's own configuration class, for what a file leaves out
    "block_type": "sequential",
    "layer_norm_type": "default",
    "activation_type": "swiglu",
    "rope": False,
}


def llama_settings(config: Mapping[str, Any]) -> Json:
    """Translate LLaDA's ``config.json`` into keyword arguments of ``LlamaConfig``.

    Raises
    ------
    UnsupportedError
        If a field is missing, or asks for what a Llama has not.

    """
    for field, wanted in _LLADA_FIXED.items():
        found = config.get(field, _LLADA_DEFAULTS.get(field, wanted))
        if found != wanted and not (found is None and wanted is False):
            raise UnsupportedError(
                f"config.json: {field} is {found!r}; of LLaDA's variants only those with "
                f"{field}={wanted!r} can be built as a Llama"
            )
    width, heads = _count(config, "d_model"), _count(config, "n_heads")
    key_heads = 1 if config.get("multi_query_attention") else config.get("n_kv_heads") or heads
    inner = config.get("mlp_hidden_size") or width * config.get("mlp_ratio", 4)
    return {
        "vocab_size": config.get("embedding_size") or _count(config, "vocab_size"),
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": _count(config, "n_layers"),
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "rms_norm_eps": config.get("rms_norm_eps", 1e-5),
        "max_position_embeddings": config.get("max_sequence_length", 1024),
        "rope_theta": float(config.get("rope_theta", 10000.0)),
        "tie_word_embeddings": config.get("weight_tying", True),
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }


def llada_settings(llama: Mapping[str, Any], mask_token_id: int, eos: int | None) -> Json:
    """Translate ``LlamaConfig.to_dict()`` into LLaDA's ``config.json``.

    Raises
    ------
    UnsupportedError
        If the Llama has what the format cannot say.

    """
    width, heads = llama["hidden_size"], llama["num_attention_heads"]
    refused = {
        "attention_bias": bool(llama.get("attention_bias")),
        "mlp_bias": bool(llama.get("mlp_bias")),
        "head_dim": (llama.get("head_dim") or width // heads) * heads != width,
        "hidden_act": llama.get("hidden_act", "silu") != "silu",
        "rope_parameters": _theta(llama) is None,
    }
    for field, bad in refused.items():
        if bad:
            raise UnsupportedError(
                f"{field}={llama.get(field)!r} cannot be written in LLaDA's format; build the "
                "Llama without biases, with silu, plain rotary positions and heads that divide "
                "its width"
            )
    return {
        **_LLADA_FIXED,
        "architectures": ["LLaDAModelLM"],
        "model_type": "llada",
        "d_model": width,
        "n_heads": heads,
        "n_kv_heads": llama["num_key_value_heads"],
        "n_layers": llama["num_hidden_layers"],
        "mlp_hidden_size": llama["intermediate_size"],
        "vocab_size": llama["vocab_size"],
        "embedding_size": llama["vocab_size"],
        "max_sequence_length": llama["max_position_embeddings"],
        "rms_norm_eps": llama["rms_norm_eps"],
        "rope_theta": _theta(llama),
        "weight_tying": bool(llama["tie_word_embeddings"]),
        "mask_token_id": mask_token_id,
        "eos_token_id": eos,
        "pad_token_id": eos,
    }


def llama_name(name: str) -> str | None:
    """Return the Llama's name of a LLaDA weight; None where it has no such weight."""
    found = _BLOCK.fullmatch(name)
    if found is None:
        return _LLADA_REST.get(name)
    part = _LLADA_BLOCK.get(found[2])
    return None if part is None else f"model.layers.{found[1]}.{part}.weight"


def llada_name(name: str) -> str:
    """Return LLaDA's name of a Llama's weight, the inverse of `llama_name`."""
    found = _LAYER.fullmatch(name)
    if found is None:
        return {ours: theirs for theirs, ours in _LLADA_REST.items()}[name]
    part = {ours: theirs for theirs, ours in _LLADA_BLOCK.items()}[found[2]]
    return f"model.transformer.blocks.{found[1]}.{part}.weight"


def qwen2_settings(config: Mapping[str, Any]) -> Json:
    """Translate Dream's ``config.json`` into keyword arguments of ``Qwen2Config``.

    Raises
    ------
    UnsupportedError
        If a field is missing, or asks for what is not supported here.

    """
    for field in ("rope_scaling", "use_sliding_window", "mlp_bias"):
        if config.get(field):
            raise UnsupportedError(
                f"config.json: {field} is {config[field]!r}; Dream is supported without it"
            )
    heads = _count(config, "num_attention_heads")
    return {
        "vocab_size": _count(config, "vocab_size"),
        "hidden_size": _count(config, "hidden_size"),
        "intermediate_size": _count(config, "intermediate_size"),
        "num_hidden_layers": _count(config, "num_hidden_layers"),
        "num_attention_heads": heads,
        "num_key_value_heads": config.get("num_key_value_heads") or heads,
        "hidden_act": config.get("hidden_act", "silu"),
        "rms_norm_eps": config.get("rms_norm_eps", 1e-6),
        "max_position_embeddings": config.get("max_position_embeddings", 32768),
        "rope_theta": float(config.get("rope_theta", 10000.0)),
        "tie_word_embeddings": config.get("tie_word_embeddings", False),
        "use_sliding_window": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }


def dream_settings(qwen2: Mapping[str, Any], mask_token_id: int, eos: int | None) -> Json:
    """Translate ``Qwen2Config.to_dict()`` into Dream's ``config.json``.

    Raises
    ------
    UnsupportedError
        If the Qwen2 has what the format cannot say.

    """
    if qwen2.get("use_sliding_window") or _theta(qwen2) is None:
        raise UnsupportedError(
            "a Qwen2 with a sliding window or scaled rotary positions cannot be written in "
            "Dream's format; build it without"
        )
    return {
        "architectures": ["DreamModel"],
        "model_type": "Dream",
        **{name: qwen2[name] for name in _DREAM_SAME},
        "rope_theta": _theta(qwen2),
        "rope_scaling": None,
        "use_sliding_window": False,
        "mask_token_id": mask_token_id,
        "eos_token_id": eos,
        "pad_token_id": eos,
    }


def _theta(settings: Mapping[str, Any]) -> float | None:
    """Return the base of plain rotary positions; None of scaled ones (transformers 4 and 5)."""
    rope = settings.get("rope_parameters") or {"rope_theta": settings.get("rope_theta")}
    plain = rope.get("rope_type", "default") == "default" and not settings.get("rope_scaling")
    return rope.get("rope_theta") if plain else None


def _count(config: Mapping[str, Any], field: str) -> int:
    value = config.get(field)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UnsupportedError(
            f"config.json: {field} is {value!r}, expected a positive whole number; this is not a "
            "checkpoint in the published format"
        )
    return value
