"""Diffusion models of a few thousand random weights, and a decoder that is slow and plain."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from adapters.transformers.model import DiffusionLM
from adapters.transformers.requests import Request
from adapters.transformers.sampler import Sampler, share
from probes import margins as plain_margins
from stopper.halting import HaltingRule, progress_at

VOCAB, MASK, END = 24, 23, 0

SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "initializer_range": 0.4,
}


def llama(seed: int = 0, **sizes: Any) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**{**SIZES, **sizes})).eval()


def qwen2(seed: int = 0, **sizes: Any) -> Qwen2ForCausalLM:
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(Qwen2Config(**{**SIZES, **sizes})).eval()


def llada_like(seed: int = 0) -> DiffusionLM:
    return DiffusionLM(llama(seed), mask_token_id=MASK, end_ids=[END])


def dream_like(seed: int = 0) -> DiffusionLM:
    return DiffusionLM(qwen2(seed), mask_token_id=MASK, end_ids=[END], shifted=True)


MODELS: dict[str, Callable[[], DiffusionLM]] = {"llada": llada_like, "dream": dream_like}


def mixed_requests(count: int, seed: int = 0, longest: int = 6) -> list[Request]:
    """Make prompts of 1 to `longest` tokens, none of them a mask.

    Without a prompt all masks look alike, and rounding would choose among them.
    """
    rng = np.random.default_rng(seed)
    return [
        Request(
            tuple(int(token) for token in rng.integers(1, MASK, size=1 + number % longest)),
            name=f"prompt-{number}",
        )
        for number in range(count)
    ]


class TableModel:
    """Stands where a network does: its logits are what a function of the tokens says.

    `logits(tokens)` gets one row of ids, padding included, and returns [positions, vocab].
    """

    def __init__(self, vocab: int, logits: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.config = SimpleNamespace(vocab_size=vocab)
        self.lm_head = torch.nn.Identity()
        self.lm_head.weight = torch.nn.Parameter(torch.zeros(1))
        self.rows: list[int] = []
        self._logits = logits

    def eval(self) -> TableModel:
        return self

    def model(self, input_ids: torch.Tensor, **_: Any) -> Any:
        self.rows.append(len(input_ids))
        hidden = torch.stack([self._logits(row) for row in input_ids])
        return SimpleNamespace(last_hidden_state=hidden)


def slow_decode(
    model: DiffusionLM,
    request: Request,
    sampler: Sampler,
    rule: HaltingRule | None = None,
    level: float = 0.0,
) -> tuple[list[int], list[int]]:
    """Decode one request by the words of the documentation; without parallel decoding.

    Returns the canvas and the passes of each block.
    """
    prompt, mask = list(request.prompt), model.mask_token_id
    canvas = list(request.canvas or [mask] * sampler.canvas_length)
    spans = sampler.blocks()
    plan = [sampler.planned(canvas[start:end].count(mask)) for start, end in spans]
    used = []
    for number, (start, end) in enumerate(spans):
        masks, step, before = canvas[start:end].count(mask), 0, None
        while mask in canvas[start:end]:
            tokens = torch.tensor([prompt + canvas])
            logits = model.logits(tokens, torch.ones_like(tokens, dtype=torch.bool))[0].numpy()
            block = logits[len(prompt) + start : len(prompt) + end]
            open_ = np.array([token == mask for token in canvas[start:end]])
            top = block.argmax(axis=1)
            done = sum(plan[:number]) if sampler.progress == "canvas" else 0
            total = sum(plan) if sampler.progress == "canvas" else plan[number]
            halts = False
            if rule is not None:
                region = open_ if rule.region == "masked" else np.ones_like(open_)
                margins = plain_margins.top2_margins(block)
                signal = plain_margins.aggregate(margins[None], region[None], rule.aggregate)[0]
                changed = before is None or bool((top != before)[open_].any())
                halts = rule.halts(signal, progress_at(done + step, total), changed, level)
            due = int(open_.sum()) if halts else share(masks, plan[number], step)
            order = sorted(np.flatnonzero(open_), key=lambda at: _rank(block[at], sampler.order))
            for at in order[:due]:
                canvas[start + at] = int(top[at])
            before, step = top, step + 1
        used.append(step)
    return canvas, used


def _rank(logits: np.ndarray, order: str) -> float:
    odds = np.exp(logits.astype(np.float64) - logits.max())
    chances = np.sort(odds / odds.sum())[::-1]
    if order == "confidence":
        return float(-chances[0])
    if order == "margin":
        return float(chances[1] - chances[0])
    return -sum(float(p) * math.log(float(p)) for p in chances if p > 0)
