"""Prompts of a file as requests to the sampler."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from adapters.transformers.requests import Request
from adapters.vllm.prompts import Prompt


def requests_of(prompts: Iterable[Prompt], tokenizer: Any) -> list[Request]:
    """Render prompts as the model is to see them.

    Parameters
    ----------
    prompts
        See :func:`adapters.vllm.prompts.read_prompts`.
    tokenizer
        See :func:`adapters.transformers.identity.load_tokenizer`.

    Returns
    -------
    list of Request
        Each with a canvas of masks; its level is "category/level", as far as they are given.

    """
    return [
        Request(
            tuple(prompt.token_ids(tokenizer)),
            name=prompt.id,
            group=prompt.group,
            level="/".join(
                str(part) for part in (prompt.category, prompt.level) if part is not None
            ),
            gold=prompt.answer,
        )
        for prompt in prompts
    ]
