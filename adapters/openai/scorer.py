"""A scorer of sentences out of a server and the model's tokenizer."""

from __future__ import annotations

from pathlib import Path

import httpx

from adapters.openai.answers import ServerReader
from probes.causal_prompts import LONGEST_PROMPT, PromptBuilder
from probes.causal_sentences import CausalSentenceScorer
from probes.causal_tokens import FastTokens
from probes.causal_wording import Wording
from probes.errors import InputError


def server_scorer(
    url: str,
    model: str,
    *,
    tokenizer: str | Path | FastTokens,
    wording: Wording | None = None,
    max_tokens: int = LONGEST_PROMPT,
    api_key: str | None = None,
    timeout_s: float = 120.0,
    client: httpx.Client | None = None,
) -> CausalSentenceScorer:
    """Score sentences through a running vLLM server; turn its prefix caching on.

    Parameters
    ----------
    url
        Of the server, without ``/v1``.
    model
        A name it serves; that of a LoRA adapter (``--enable-lora --lora-modules exit=FOLDER``)
        scores with the adapter.
    tokenizer
        Folder with the model's ``tokenizer.json``.
    wording
        The prompt's words; `probes.causal_loading.in_chat_template` puts them into a chat template.
    max_tokens
        Longest prompt; less where the server takes less.
    api_key, timeout_s, client
        See :class:`ServerReader`.

    Raises
    ------
    ServerError
        If the server does not answer or does not serve the model.
    InputError
        If the tokenizer is missing, or not the server's.
    UnsupportedError
        If the tokenizer has no one token for Yes and for No.

    """
    tokens = tokenizer if isinstance(tokenizer, FastTokens) else FastTokens.from_folder(tokenizer)
    reader = ServerReader(url, model, api_key=api_key, timeout_s=timeout_s, client=client)
    builder = PromptBuilder(tokens, min(max_tokens, reader.max_tokens), wording)
    sample = builder.wording.opening + builder.wording.closing + builder.wording.tail
    theirs = reader.tokenize(sample)
    if theirs is not None and theirs != tokens.encode(sample):
        raise InputError(
            f"tokenizer: reads a text otherwise than {url} does for {model!r}; point to the "
            "folder of the very model that is served"
        )
    return CausalSentenceScorer(builder, reader)
