"""Who a checkpoint is: its tokenizer, its end tokens and its fingerprint. No code of it is run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

from probes.provenance import ModelFingerprint, fingerprint_files, hub_identity, sha256_text
from probes.validation import read_json
from stopper.errors import InputError, UnsupportedError

Json = dict[str, Any]

TURN_ENDS = ("<|eot_id|>", "<|im_end|>")
"""What ends a turn in LLaDA's and in Dream's chats; their ``eos_token_id`` is the padding."""


def load_tokenizer(folder: str | Path) -> Any:
    """Load a checkpoint's tokenizer, with its chat template, from files alone.

    LLaDA ships a ``tokenizer.json``; Dream a ``vocab.json`` and ``merges.txt``, which are Qwen2's.

    Raises
    ------
    UnsupportedError
        If the folder has neither.

    """
    folder = Path(folder)
    if (folder / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(folder)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return Qwen2Tokenizer.from_pretrained(folder)
    raise UnsupportedError(
        f"{folder}: neither tokenizer.json nor vocab.json with merges.txt; copy the tokenizer's "
        "files of the model there"
    )


def end_ids(folder: Path, settings: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the tokens that end an answer.

    These are the ``eos_token_id`` of ``config.json`` and ``generation_config.json``, and the
    tokens of :data:`TURN_ENDS` that the tokenizer has.
    """
    generation = folder / "generation_config.json"
    asked = [settings.get("eos_token_id")]
    if generation.is_file():
        asked.append(read_object(generation).get("eos_token_id"))
    flat = [token for one in asked for token in (one if isinstance(one, list) else [one])]
    named = _added_tokens(folder)
    flat += [named[name] for name in TURN_ENDS if name in named]
    return tuple(sorted({token for token in flat if isinstance(token, int)}))


def _added_tokens(folder: Path) -> dict[str, int]:
    tokenizer, config = folder / "tokenizer.json", folder / "tokenizer_config.json"
    found: dict[str, int] = {}
    if tokenizer.is_file():
        for entry in read_object(tokenizer).get("added_tokens") or []:
            found[entry["content"]] = entry["id"]
    elif config.is_file():
        for token, entry in (read_object(config).get("added_tokens_decoder") or {}).items():
            found[entry["content"]] = int(token)
    return found


def fingerprint(
    folder: Path, settings: Mapping[str, Any], config: Any, dtype: torch.dtype
) -> ModelFingerprint | None:
    """Return the identity that an artifact is tied to; None of a folder without a tokenizer.

    Parameters
    ----------
    folder, settings
        The checkpoint and its ``config.json``.
    config
        The transformers configuration built from it.
    dtype
        As loaded.

    """
    if (folder / "tokenizer.json").is_file():
        files = fingerprint_files(folder)
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        parts = [(folder / name).read_bytes() for name in ("vocab.json", "merges.txt")]
        template = load_tokenizer(folder).chat_template
        files = {
            "tokenizer_sha256": hashlib.sha256(b"".join(parts)).hexdigest(),
            "chat_template_sha256": None if template is None else sha256_text(template),
        }
    else:
        return None
    name, revision = hub_identity(str(folder))
    architectures = settings.get("architectures") or [type(config).__name__]
    return ModelFingerprint(
        model=name,
        architecture=str(architectures[0]),
        hidden_size=int(config.hidden_size),
        num_layers=int(config.num_hidden_layers),
        vocab_size=int(config.vocab_size),
        dtype=str(dtype).removeprefix("torch."),
        tokenizer_sha256=str(files["tokenizer_sha256"]),
        chat_template_sha256=files["chat_template_sha256"],
        revision=revision,
    )


def model_fingerprint(model: Any) -> ModelFingerprint:
    """Return the identity of a loaded causal language model, as the vLLM plugin tells it.

    Parameters
    ----------
    model
        What ``AutoModelForCausalLM.from_pretrained`` gave.

    Raises
    ------
    UnsupportedError
        If its tokenizer has no ``tokenizer.json``, so that cues could not be matched by id.

    """
    config, source = model.config, str(model.name_or_path)
    commit = getattr(config, "_commit_hash", None)
    name, revision = hub_identity(source, commit)
    files = fingerprint_files(_tokenizer_folder(source, commit))
    text, quantized = config.get_text_config(), getattr(config, "quantization_config", None)
    method = quantized.get("quant_method") if isinstance(quantized, dict) else None
    if quantized is not None and method is None:
        method = getattr(quantized, "quant_method", None)
    return ModelFingerprint(
        model=name,
        architecture=str((config.architectures or [type(model).__name__])[0]),
        hidden_size=int(text.hidden_size),
        num_layers=int(text.num_hidden_layers),
        vocab_size=int(text.vocab_size),
        dtype=str(model.dtype).removeprefix("torch."),
        quantization=None if method is None else str(getattr(method, "value", method)),
        tokenizer_sha256=str(files["tokenizer_sha256"]),
        chat_template_sha256=files["chat_template_sha256"],
        revision=revision,
    )


def _tokenizer_folder(source: str, revision: str | None) -> Path:
    if (Path(source) / "tokenizer.json").is_file():
        return Path(source)
    from transformers.utils import cached_file

    try:
        found = cached_file(source, "tokenizer.json", revision=revision)
    except OSError as problem:
        raise UnsupportedError(
            f"{source}: no tokenizer.json ({problem}); stopper matches cues by token id and needs "
            "a fast tokenizer"
        ) from None
    return Path(found).parent


def read_object(path: Path) -> Json:
    """Read a JSON object.

    Raises
    ------
    InputError
        If the file cannot be read or holds something else.

    """
    try:
        content = read_json(path.read_bytes())
    except OSError as problem:
        raise InputError(f"{path}: {problem.strerror}. Point to a checkpoint's folder") from None
    except ValueError as problem:
        raise InputError(f"{path}: not JSON ({problem}). Download it again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a JSON object. Download it again")
    return content
