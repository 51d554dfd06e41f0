"""Reads the Yes or No of a causal language model in this process, with transformers.

Prompts that share a prefix cost one pass over it and a short batched pass over their closings.
Needs torch and transformers.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from probes.causal_prompts import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CLOSINGS_AT_A_TIME = 16
"""Each has a copy of its prefix's keys and values."""


class TransformersReader:
    """Reads answers from a model in this process.

    Parameters
    ----------
    model
        In evaluation mode; its tokens must see only what is before them.
    identity
        Which model it is.

    """

    def __init__(self, model: PreTrainedModel, identity: dict[str, str]) -> None:
        self._model = model
        self._identity = identity
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters

    @property
    def identity(self) -> dict[str, str]:
        """Which model it is."""
        return dict(self._identity)

    def read(self, prompts: Sequence[Prompt], yes: int, no: int) -> npt.NDArray[np.float32]:
        """Return logits float32 [n, 2]; see `probes.causal_sentences.AnswerReader`."""
        import torch

        answers = np.empty((len(prompts), 2), np.float32)
        with torch.inference_mode():
            for prefix, members in groups(prompts):
                cache = self._forward([prefix], None).past_key_values
                # Closings of like lengths are padded least.
                members.sort(key=lambda at: len(prompts[at].closing))
                for first in range(0, len(members), CLOSINGS_AT_A_TIME):
                    some = members[first : first + CLOSINGS_AT_A_TIME]
                    closings = [prompts[at].closing for at in some]
                    logits = self._behind(cache, len(prefix), closings)
                    answers[some] = logits[:, [yes, no]].float().cpu().numpy()
        return answers

    def _behind(self, cache: Any, length: int, closings: Sequence[tuple[int, ...]]) -> Any:
        """Return the logits behind each closing, [n, vocabulary]."""
        import torch

        mine = copy.deepcopy(cache)
        mine.batch_repeat_interleave(len(closings))
        last = torch.tensor([len(closing) - 1 for closing in closings])
        kept, place = torch.unique(last, return_inverse=True)
        logits = self._forward(closings, mine, length, kept).logits
        return logits[torch.arange(len(closings)), place if self._keeps else last]

    def _forward(
        self,
        rows: Sequence[tuple[int, ...]],
        cache: Any,
        behind: int = 0,
        kept: Any = None,
    ) -> Any:
        import torch

        # Padded on the right: no token sees what comes after it.
        longest = max(map(len, rows))
        ids = torch.zeros((len(rows), longest), dtype=torch.long)
        mask = torch.zeros((len(rows), behind + longest), dtype=torch.long)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : behind + len(row)] = 1
        device = self._model.device
        keep = {} if not self._keeps else {"logits_to_keep": 1 if kept is None else kept.to(device)}
        return self._model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            past_key_values=cache,
            use_cache=True,
            **keep,
        )


def groups(prompts: Sequence[Prompt]) -> Iterator[tuple[tuple[int, ...], list[int]]]:
    """Yield each run of equal prefixes and the indices of its prompts."""
    start = 0
    for at in range(1, len(prompts) + 1):
        if at == len(prompts) or prompts[at].prefix != prompts[start].prefix:
            yield prompts[start].prefix, list(range(start, at))
            start = at
