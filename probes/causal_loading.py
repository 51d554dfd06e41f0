"""Loads a causal language model of this machine, with a LoRA adapter or none, as a scorer.

Needs torch and transformers; LoRA adapters need peft (``pip install stopper[rag]``).
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probes.causal_prompts import LONGEST_PROMPT, PromptBuilder
from probes.causal_sentences import CausalSentenceScorer
from probes.causal_tokens import FastTokens
from probes.causal_transformers import TransformersReader
from probes.causal_wording import Wording
from probes.errors import InputError, UnsupportedError
from probes.provenance import hub_identity
from probes.validation import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CONTENT = "\u241f"  # stands for the message while a chat template is rendered


def load_causal_scorer(
    model: str | Path,
    *,
    adapter: str | Path | None = None,
    chat: bool = False,
    wording: Wording | None = None,
    max_tokens: int | None = None,
    device: str = "cpu",
    dtype: str = "auto",
    revision: str | None = None,
) -> CausalSentenceScorer:
    """Load a causal language model as a scorer of sentences.

    Parameters
    ----------
    model
        Folder or hub id; weights as safetensors, no code of its own is run.
    adapter
        Folder of a LoRA adapter for it, such as EXIT's: ``adapter_config.json`` and
        ``adapter_model.safetensors``.
    chat
        Whether to put the prompt into the model's chat template: for instruction-tuned models.
    wording
        The prompt's words; an adapter answers best to those that it was trained with.
    max_tokens
        Longest prompt; None takes what the model can, at most `LONGEST_PROMPT`.
    device, dtype, revision
        As transformers takes them; "auto" is the dtype of the weights.

    Raises
    ------
    InputError
        If files are missing, or not what they should be.
    UnsupportedError
        If a package is missing, or the tokenizer has no one token for Yes and for No.

    """
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError:
        raise UnsupportedError(
            "a Yes/No scorer in this process needs torch and transformers: "
            "pip install 'stopper[rag]', or use a server (adapters.openai)"
        ) from None

    identity = {} if adapter is None else {"adapter": check_adapter(Path(adapter))}
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision)
        network = AutoModelForCausalLM.from_pretrained(
            model, dtype=dtype, revision=revision, use_safetensors=True
        )
    except (OSError, ValueError) as problem:
        raise InputError(
            f"{model}: transformers cannot load it: {problem}. Point to the folder of a causal "
            "language model with safetensors weights and a fast tokenizer"
        ) from None
    if adapter is not None:
        network = with_adapter(network, Path(adapter))
    longest = getattr(network.config.get_text_config(), "max_position_embeddings", LONGEST_PROMPT)
    words = wording or Wording()
    if chat:
        words = in_chat_template(words, tokenizer)
    builder = PromptBuilder(
        FastTokens(_backend(tokenizer, model), template_control(tokenizer)),
        min(longest, LONGEST_PROMPT) if max_tokens is None else min(longest, max_tokens),
        words,
    )
    name, commit = hub_identity(str(model), revision)
    folder = Path(model)
    identity["weights" if folder.is_dir() else "model"] = (
        weights_sha256(folder) if folder.is_dir() else f"{name}@{commit or 'main'}"
    )
    identity["dtype"] = str(network.dtype).removeprefix("torch.")
    return CausalSentenceScorer(builder, TransformersReader(network.to(device).eval(), identity))


def with_adapter(model: Any, folder: Path) -> Any:
    """Put a LoRA adapter onto its base model, merged into the weights.

    Raises
    ------
    InputError
        If it does not fit the model.
    UnsupportedError
        If peft is not installed.

    """
    try:
        from peft import PeftModel
    except ImportError:
        raise UnsupportedError(
            f"{folder}: a LoRA adapter needs the package peft: pip install 'stopper[rag]'"
        ) from None
    try:
        return PeftModel.from_pretrained(model, folder).merge_and_unload()
    except (RuntimeError, ValueError, TypeError, KeyError) as problem:
        raise InputError(
            f"{folder}: the adapter does not fit the model: {problem}. Its adapter_config.json "
            "names the base that it was made for"
        ) from None


def check_adapter(folder: Path) -> str:
    """Return the SHA-256 of an adapter's weights.

    Raises
    ------
    InputError
        If the folder is no LoRA adapter with safetensors weights.

    """
    config = folder / "adapter_config.json"
    weights = folder / "adapter_model.safetensors"
    try:
        described = read_json(config.read_bytes())
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    except OSError as problem:
        raise InputError(
            f"{problem.filename}: {problem.strerror}. A LoRA adapter is a folder with "
            "adapter_config.json and adapter_model.safetensors; a .bin could run code: convert it"
        ) from None
    except ValueError as problem:
        raise InputError(f"{config}: not JSON ({problem}). Download the adapter again") from None
    if not isinstance(described, dict) or described.get("peft_type") != "LORA":
        raise InputError(f"{config}: describes no LoRA adapter; only those can be loaded")
    return digest


def weights_sha256(folder: Path) -> str:
    """Hash the names and the bytes of a folder's safetensors files."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(file.name.encode())
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def in_chat_template(
    wording: Wording, tokenizer: PreTrainedTokenizerBase, **options: Any
) -> Wording:
    """Put the words into a model's chat template, as one message of the user.

    Parameters
    ----------
    wording
        Its head and tail are replaced.
    tokenizer
        With a chat template.
    **options
        Of the template, such as ``enable_thinking=False``.

    Raises
    ------
    InputError
        If there is no template, or it does not give the message back as it is.

    """
    if not tokenizer.chat_template:
        raise InputError("the model has no chat template; use it without (chat=False)")
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": _CONTENT}],
        add_generation_prompt=True,
        tokenize=False,
        **options,
    )
    head, found, tail = str(rendered).partition(_CONTENT)
    if not found or _CONTENT in tail:
        raise InputError("the model's chat template does not show the message once; set chat=False")
    return replace(wording, head=head, tail=tail, starts=False)


def template_control(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Return the added tokens that the chat template writes, special by name or not."""
    template = str(tokenizer.chat_template or "")
    added = (str(token) for token in tokenizer.get_added_vocab())
    return tuple(name for name in added if name.strip() and name in template)


def _backend(tokenizer: Any, model: str | Path) -> Any:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError(f"{model}: has no fast tokenizer (tokenizer.json); choose another model")
    return backend
