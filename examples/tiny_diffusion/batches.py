"""Training batches: prompts on the left, canvases with random masks on the right."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast

from examples.tiny_diffusion.problems import Problem, stream
from examples.tiny_diffusion.recipe import Recipe
from examples.tiny_diffusion.tokens import TASKS


@dataclass(slots=True)
class Batch:
    """Rows with the prompt padded on the left, so that all canvases end at the right edge.

    ``ids`` int64[rows, length], masks in place; ``attended`` bool[rows, length], False on padding;
    ``targets`` int64[rows, canvas]; ``learned`` bool[rows, canvas], cells whose loss counts, all of
    them hidden; ``tasks`` int64[rows].
    """

    ids: torch.Tensor
    attended: torch.Tensor
    targets: torch.Tensor
    learned: torch.Tensor
    tasks: torch.Tensor


def draw_masks(
    rng: random.Random, length: int, canvas: int, ahead: float = 0.0
) -> tuple[list[bool], list[bool]]:
    """Draw which cells are hidden, and which of them are learned.

    LLaDA's uniform mask ratio in four of ten draws. The others are what decoding meets most:
    everything hidden; the answer filled from the left, or at random, with the tail still hidden.
    A share ``ahead`` of all draws shows the answer up to one cell, and only that cell is learned:
    there one look-up gives the letter, and nothing else does.
    """
    if rng.random() < ahead:
        shown = rng.randrange(length)
        return [i >= shown for i in range(canvas)], [i == shown for i in range(canvas)]
    kind = rng.random()
    if kind < 0.4:
        ratio = rng.random()
        hidden = [rng.random() < ratio for _ in range(canvas)]
    elif kind < 0.55:
        hidden = [True] * canvas
    elif kind < 0.8:
        shown = rng.randint(0, length)
        hidden = [i >= shown for i in range(canvas)]
    else:
        ratio = rng.random()
        hidden = [i >= length or rng.random() < ratio for i in range(canvas)]
    if not any(hidden):
        hidden[rng.randrange(length)] = True
    return hidden, hidden


def collate(
    rng: random.Random,
    problems: list[Problem],
    canvas: int,
    tokenizer: PreTrainedTokenizerFast,
    ahead: Mapping[str, float],
) -> Batch:
    """Encode problems, draw their masks and pad."""
    prompts = [tokenizer.encode(p.prompt) for p in problems]
    answers = [tokenizer.encode(p.answer) for p in problems]
    width = max(map(len, prompts))
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    masks = [
        draw_masks(rng, len(a), canvas, ahead[p.task])
        for p, a in zip(problems, answers, strict=True)
    ]
    left = torch.tensor([[pad] * (width - len(p)) + p for p in prompts])
    targets = torch.tensor([a + [end] * (canvas - len(a)) for a in answers])
    hidden, learned = (torch.tensor(side) for side in zip(*masks, strict=True))
    ids = torch.cat([left, targets.masked_fill(hidden, tokenizer.mask_token_id)], dim=1)
    tasks = torch.tensor([TASKS.index(p.task) for p in problems])
    return Batch(ids, ids != pad, targets, learned, tasks)


def draw_pool(index: int, recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Iterator[Batch]:
    """Yield the batches of pool ``index``: a function of seed and index."""
    rng = random.Random(f"pool-{recipe.seed}-{index}")
    stage = recipe.stage(index)
    problems = stream("train", rng.getrandbits(60), stage.size, stage.shares)
    for _ in range(recipe.batches_per_pool):
        drawn = [next(problems) for _ in range(stage.rows)]
        yield collate(rng, drawn, rng.choice(stage.canvases), tokenizer, stage.ahead)
