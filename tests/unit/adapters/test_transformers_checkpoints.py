from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import silu
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from adapters.transformers import export_dream, export_llada, load, load_tokenizer
from adapters.transformers.layouts import llada_name, llama_name, llama_settings, qwen2_settings
from stopper.errors import InputError, UnsupportedError
from tests.unit.adapters.diffusion_makers import END, MASK, VOCAB, llama, qwen2

LLADA_8B = {  # what GSAI-ML/LLaDA-8B-Instruct says of its shape
    "model_type": "llada",
    "architectures": ["LLaDAModelLM"],
    "activation_type": "silu",
    "alibi": False,
    "attention_layer_norm": False,
    "bias_for_layer_norm": False,
    "block_group_size": 1,
    "block_type": "llama",
    "d_model": 4096,
    "embedding_size": 126464,
    "eos_token_id": 126081,
    "include_bias": False,
    "include_qkv_bias": False,
    "input_emb_norm": False,
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "mask_token_id": 126336,
    "max_sequence_length": 4096,
    "mlp_hidden_size": 12288,
    "multi_query_attention": None,
    "n_heads": 32,
    "n_kv_heads": 32,
    "n_layers": 32,
    "rms_norm_eps": 1e-05,
    "rope": True,
    "rope_theta": 500000.0,
    "scale_logits": False,
    "vocab_size": 126464,
    "weight_tying": False,
}
DREAM_7B = {  # and Dream-org/Dream-v0-Instruct-7B
    "model_type": "Dream",
    "architectures": ["DreamModel"],
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "mask_token_id": 151666,
    "max_position_embeddings": 131072,
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "vocab_size": 152064,
}


@pytest.fixture(scope="module")
def llada(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llada")
    export_llada(llama(), folder, MASK, eos_token_id=END)
    return folder


@pytest.fixture(scope="module")
def dream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dream")
    model = qwen2()
    for layer in model.model.layers:  # biases start as zeros, which would hide a lost one
        for name in ("q_proj", "k_proj", "v_proj"):
            torch.nn.init.normal_(getattr(layer.self_attn, name).bias)
    export_dream(model, folder, MASK, eos_token_id=END)
    return folder


def copied(folder: Path, into: Path, **settings: Any) -> Path:
    """Copy a checkpoint and change its config.json; None takes a field away."""
    for file in folder.iterdir():
        (into / file.name).write_bytes(file.read_bytes())
    config = {**json.loads((folder / "config.json").read_text()), **settings}
    kept = {name: value for name, value in config.items() if value is not None}
    (into / "config.json").write_text(json.dumps(kept))
    return into


def norm(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return weight * hidden / (hidden.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()


def turned(vectors: torch.Tensor) -> torch.Tensor:
    """Rotate [positions, heads, size] by position, halves against halves."""
    half = vectors.shape[-1] // 2
    angles = torch.arange(len(vectors))[:, None] / 10000.0 ** (torch.arange(half) / half)
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    one, other = vectors[..., :half], vectors[..., half:]
    return torch.cat([one * cos - other * sin, other * cos + one * sin], dim=-1)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Let every position of [positions, heads * size] see every other; one key head of two."""
    q = turned(q.unflatten(-1, (2, 8)))
    k, v = turned(k.unflatten(-1, (1, 8))).repeat(1, 2, 1), v.unflatten(-1, (1, 8)).repeat(1, 2, 1)
    weights = torch.einsum("ihd,jhd->hij", q, k).div(8**0.5).softmax(-1)
    return torch.einsum("hij,jhd->ihd", weights, v).flatten(1)


def plain_llada(weights: dict[str, torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    """Run LLaDA by its own names of weights."""
    top = "model.transformer."
    hidden = weights[top + "wte.weight"][tokens]
    for layer in range(2):
        w = {
            name.split(".")[-2]: tensor
            for name, tensor in weights.items()
            if name.startswith(f"{top}blocks.{layer}.")
        }
        inner = norm(hidden, w["attn_norm"])
        mixed = attend(inner @ w["q_proj"].T, inner @ w["k_proj"].T, inner @ w["v_proj"].T)
        hidden = hidden + mixed @ w["attn_out"].T
        inner = norm(hidden, w["ff_norm"])
        hidden = hidden + (silu(inner @ w["ff_proj"].T) * (inner @ w["up_proj"].T)) @ w["ff_out"].T
    return norm(hidden, weights[top + "ln_f.weight"]) @ weights[top + "ff_out.weight"].T


def plain_dream(weights: dict[str, torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    """Run Dream by its own names of weights; logits are moved to the position they are of."""
    hidden = weights["model.embed_tokens.weight"][tokens]
    for layer in range(2):
        start = f"model.layers.{layer}."
        w = {n.removeprefix(start): t for n, t in weights.items() if n.startswith(start)}
        inner = norm(hidden, w["input_layernorm.weight"])
        q, k, v = (
            inner @ w[f"self_attn.{part}_proj.weight"].T + w[f"self_attn.{part}_proj.bias"]
            for part in "qkv"
        )
        hidden = hidden + attend(q, k, v) @ w["self_attn.o_proj.weight"].T
        inner = norm(hidden, w["post_attention_layernorm.weight"])
        gate, up = inner @ w["mlp.gate_proj.weight"].T, inner @ w["mlp.up_proj.weight"].T
        hidden = hidden + (silu(gate) * up) @ w["mlp.down_proj.weight"].T
    logits = norm(hidden, weights["model.norm.weight"]) @ weights["lm_head.weight"].T
    return torch.cat([logits[:1], logits[:-1]])


@pytest.mark.parametrize(("kind", "plain"), [("llada", plain_llada), ("dream", plain_dream)])
def test_a_loaded_model_computes_what_the_published_one_does(
    kind: str, plain: Any, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(kind)
    tokens = torch.tensor([3, 9, MASK, 4, MASK, MASK])
    wanted = plain(load_file(folder / "model.safetensors"), tokens)
    found = load(folder).logits(tokens[None], torch.ones(1, 6, dtype=torch.bool))[0]
    keep = torch.arange(VOCAB) != MASK
    torch.testing.assert_close(found[:, keep], wanted[:, keep], rtol=1e-4, atol=1e-5)
    assert (found[:, MASK] == -torch.inf).all()


@pytest.mark.parametrize("kind", ["llada", "dream"])
def test_padding_moves_nothing_and_single_positions_can_be_asked(
    kind: str, request: pytest.FixtureRequest
) -> None:
    model = load(request.getfixturevalue(kind))
    tokens = torch.tensor([[7, 7, 3, 9, MASK, 4], [1, 2, 3, 4, 5, MASK]])
    valid = torch.tensor([[False, False, True, True, True, True], [True] * 6])
    found = model.logits(tokens, valid)
    alone = model.logits(tokens[:1, 2:], valid[:1, 2:])
    torch.testing.assert_close(found[0, 2:], alone[0], rtol=1e-4, atol=1e-5)
    at = torch.tensor([[2, 5], [0, 4]])
    asked = model.logits(tokens, valid, at)
    torch.testing.assert_close(asked[0], found[0, [2, 5]])
    torch.testing.assert_close(asked[1], found[1, [0, 4]])


@pytest.mark.parametrize("tied", [False, True])
def test_what_is_exported_is_what_is_loaded(tied: bool, tmp_path: Path) -> None:
    model, other = llama(tie_word_embeddings=tied), qwen2(tie_word_embeddings=tied)
    export_llada(model, tmp_path / "llada", MASK, eos_token_id=END)
    export_dream(other, tmp_path / "deep" / "dream", MASK)
    for source, folder in ((model, "llada"), (other, "deep/dream")):
        found = load(tmp_path / folder)
        theirs = found.network.state_dict()
        assert theirs.keys() == source.state_dict().keys()
        for name, tensor in source.state_dict().items():
            torch.testing.assert_close(theirs[name], tensor, rtol=0, atol=0)
        assert found.network.config.tie_word_embeddings is tied
        assert (found.mask_token_id, found.vocab_size) == (MASK, VOCAB)
    assert load(tmp_path / "llada").end_ids == (END,)
    assert load(tmp_path / "deep" / "dream").end_ids == ()


def test_shards_are_read_and_the_dtype_is_chosen(llada: Path, tmp_path: Path) -> None:
    folder = copied(llada, tmp_path)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    parts = {"one.safetensors": sorted(weights)[:9], "two.safetensors": sorted(weights)[9:]}
    for file, names in parts.items():
        save_file({name: weights[name] for name in names}, folder / file)
    index = {"weight_map": {name: file for file, names in parts.items() for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    found, whole = load(folder).network.state_dict(), load(llada).network.state_dict()
    assert all(torch.equal(found[name], whole[name]) for name in whole)
    half = load(folder, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert half.network.model.rotary_emb.inv_freq.dtype == torch.float32


def test_the_published_shapes_are_those_of_the_published_sizes() -> None:
    with torch.device("meta"):
        eight = LlamaForCausalLM(LlamaConfig(**llama_settings(LLADA_8B)))
        seven = Qwen2ForCausalLM(Qwen2Config(**qwen2_settings(DREAM_7B)))
    assert sum(one.numel() for one in eight.parameters()) == 8_015_581_184
    assert sum(one.numel() for one in seven.parameters()) == 7_615_616_512
    assert eight.config.rope_parameters["rope_theta"] == 500000.0
    assert seven.config.rope_parameters["rope_theta"] == 1000000.0
    names = [llada_name(name) for name in eight.state_dict()]
    assert len(names) == 32 * 9 + 3
    assert [llama_name(name) for name in names] == list(eight.state_dict())


def test_code_in_the_folder_is_not_run(llada: Path, tmp_path: Path) -> None:
    auto = {"AutoModel": "modeling_llada.LLaDAModelLM", "AutoConfig": "configuration_llada.C"}
    folder = copied(llada, tmp_path, auto_map=auto)
    for name in ("modeling_llada.py", "configuration_llada.py"):
        (folder / name).write_text("raise SystemExit('run')\n")
    assert load(folder).mask_token_id == MASK


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"model_type": "llada2_moe"}, "known are llada, Dream", id="kind"),
        pytest.param({"mask_token_id": None}, "mask_token_id is None", id="no mask"),
        pytest.param({"d_model": None}, "d_model is None", id="no width"),
        pytest.param({"n_layers": 0}, "n_layers is 0", id="no layers"),
        pytest.param({"block_type": "sequential"}, "block_type='llama'", id="block"),
        pytest.param({"block_type": None}, "block_type is 'sequential'", id="default block"),
        pytest.param({"alibi": True}, "alibi is True", id="alibi"),
        pytest.param({"include_qkv_bias": True}, "include_qkv_bias is True", id="bias"),
        pytest.param({"attention_layer_norm": True}, "attention_layer_norm", id="norm of keys"),
        pytest.param({"activation_type": "swiglu"}, "activation_type", id="activation"),
        pytest.param({"scale_logits": True}, "scale_logits", id="scaled logits"),
    ],
)
def test_other_models_and_variants_are_named(
    settings: dict[str, Any], message: str, llada: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedError, match=message):
        load(copied(llada, tmp_path, **settings))


def test_dream_with_scaled_positions_is_refused(dream: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="rope_scaling"):
        load(copied(dream, tmp_path, rope_scaling={"type": "yarn", "factor": 4.0}))


def test_what_is_missing_or_broken_is_named(llada: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json: No such file"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json: not JSON"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(InputError, match="not a JSON object"):
        load(tmp_path)
    folder = copied(llada, tmp_path)
    weights = load_file(llada / "model.safetensors")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(InputError, match="Download the checkpoint again"):
        load(folder)
    file.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match="Only safetensors are read"):
        load(folder)
    last = "model.transformer.ln_f.weight"
    save_file({name: weights[name] for name in weights if name != last}, file)
    with pytest.raises(InputError, match=r"missing \['model.norm.weight'\]"):
        load(folder)
    save_file({**weights, last: torch.ones(5)}, file)
    with pytest.raises(InputError, match=r"model.norm.weight has shape \[5\]"):
        load(folder)
    save_file({**weights, "model.transformer.blocks.0.q_norm.weight": torch.ones(8)}, file)
    with pytest.raises(UnsupportedError, match=r"q_norm\.weight' has no place"):
        load(folder)
    save_file({**weights, "model.transformer.blocks.7.q_proj.weight": torch.ones(8)}, file)
    with pytest.raises(InputError, match="foreign"):
        load(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../model.safetensors"}}))
    with pytest.raises(InputError, match="outside its folder"):
        load(folder)
    index.write_text(json.dumps({"weights": {}}))
    with pytest.raises(InputError, match="no weight_map"):
        load(folder)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        pytest.param({"attention_bias": True}, "attention_bias", id="bias"),
        pytest.param({"head_dim": 16}, "head_dim", id="heads"),
        pytest.param({"hidden_act": "gelu"}, "hidden_act", id="activation"),
        pytest.param(
            {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
            "rope_parameters",
            id="positions",
        ),
    ],
)
def test_a_llama_that_llada_cannot_be_is_not_written(
    sizes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedError, match=message):
        export_llada(llama(**sizes), tmp_path, MASK)
    assert not list(tmp_path.iterdir())


def test_a_qwen2_with_a_window_is_not_written_as_dream(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="sliding window"):
        export_dream(qwen2(use_sliding_window=True), tmp_path, MASK)


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer in the manner of Dream: no tokenizer.json, and code of its own."""
    (folder / "vocab.json").write_text(json.dumps({"a": 3, "b": 1, "ab": 2}))
    (folder / "merges.txt").write_text("#version: 0.2\na b\n")
    named = {END: "<|endoftext|>", MASK: "<|mask|>", 20: "<|im_end|>"}
    config = {
        "tokenizer_class": "DreamTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]},
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "mask_token": "<|mask|>",
        "added_tokens_decoder": {
            str(token): {"content": text, "special": True} for token, text in named.items()
        },
        "chat_template": "{{ messages[0]['content'] }}",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "tokenization_dream.py").write_text("raise SystemExit('run')\n")


def test_dreams_tokenizer_is_loaded_from_its_vocabulary(dream: Path, tmp_path: Path) -> None:
    folder = copied(dream, tmp_path)
    assert load(folder).fingerprint is None
    with pytest.raises(UnsupportedError, match=r"neither tokenizer\.json nor"):
        load_tokenizer(folder)
    write_tokenizer(folder)
    tokenizer = load_tokenizer(folder)
    assert tokenizer.encode("ab") == [2]
    chat = [{"role": "user", "content": "ab"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == "ab"
    model = load(folder)
    assert model.end_ids == (END, 20)
    assert model.fingerprint is not None
    assert model.fingerprint.architecture == "DreamModel"
    assert (model.fingerprint.num_layers, model.fingerprint.dtype) == (2, "float32")
    (folder / "vocab.json").write_text(json.dumps({"a": 1, "b": 3, "ab": 2}))
    other = load(folder).fingerprint
    assert other is not None
    assert [phrase.split()[0] for phrase in model.fingerprint.mismatches(other)] == [
        "tokenizer_sha256"
    ]


def test_end_tokens_are_those_of_all_files(llada: Path, tmp_path: Path) -> None:
    folder = copied(llada, tmp_path)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [4, 5]}))
    added = [{"id": 6, "content": "<|eot_id|>"}, {"id": 7, "content": "<|other|>"}]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    model = load(folder)
    assert model.end_ids == (END, 4, 5, 6)
    assert model.fingerprint is not None
    assert model.fingerprint.model == str(folder)
