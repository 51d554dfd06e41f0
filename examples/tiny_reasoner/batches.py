"""Training batches: encoded examples of one stage, with slips the model itself would make."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from examples.tiny_reasoner import recipe
from examples.tiny_reasoner.problems import Problem, stream
from examples.tiny_reasoner.recipe import Recipe, Stage
from examples.tiny_reasoner.tokens import prompt_text
from examples.tiny_reasoner.traces import Kind, Plan, Slot, Trace, draw_plan, write

PROBED_PASSES = 2
LATE_SLIP = 0.02  # share of wrong results in passes past the probed ones


@dataclass(slots=True)
class Example:
    """One sequence: ids and classes of its tokens, and where its result slots are."""

    ids: list[int]
    kinds: list[int]
    slots: dict[Slot, int]


@dataclass(slots=True)
class Batch:
    """Right-padded ids [rows, length] and classes [rows, length]."""

    ids: torch.Tensor
    kinds: torch.Tensor


class Encoder:
    """Encodes pieces one by one, remembering each; pieces end where tokens end."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        """Return the token ids of a short, often repeated text."""
        if text not in self._known:
            self._known[text] = self.tokenizer.encode(text, add_special_tokens=False)
        return self._known[text]

    def example(self, problem: Problem, trace: Trace) -> Example:
        """Encode the prompt of a problem and a trace over it."""
        prompt = prompt_text(problem.text)
        ids = list(self.tokenizer.encode(prompt, add_special_tokens=False))
        kinds = [int(Kind.PROMPT)] * len(ids)
        slots: dict[Slot, int] = {}
        for piece in trace.pieces:
            new = self.ids(piece.text)
            if piece.slot is not None:
                slots[piece.slot] = len(ids)
            ids += new
            kinds += [int(piece.kind)] * len(new)
        return Example(ids, kinds, slots)


def bucketed(examples: Iterable[Example], budget: int) -> Iterator[list[Example]]:
    """Group examples of like length, each group within ``budget`` padded tokens."""
    group: list[Example] = []
    for example in sorted(examples, key=lambda e: len(e.ids)):
        if group and (len(group) + 1) * len(example.ids) > budget:
            yield group
            group = []
        group.append(example)
    if group:
        yield group


def collate(group: list[Example], pad: int) -> Batch:
    """Pad a group on the right."""
    length = max(len(e.ids) for e in group)
    ids = [e.ids + [pad] * (length - len(e.ids)) for e in group]
    kinds = [e.kinds + [int(Kind.PROMPT)] * (length - len(e.kinds)) for e in group]
    return Batch(torch.tensor(ids), torch.tensor(kinds))


def draw_pool(
    index: int, stage: Stage, plan: Recipe, encoder: Encoder, model: LlamaForCausalLM
) -> list[Batch]:
    """Draw the batches of pool ``index``: a function of seed, index, stage and the model."""
    rng = random.Random(f"pool-{plan.seed}-{index}")
    problems = stream("train", rng.getrandbits(60), stage.levels)
    drafts: list[tuple[Problem, Plan]] = []
    clean: list[Example] = []
    wanted = plan.batch_tokens * plan.batches_per_pool
    while wanted > 0:
        problem = next(problems)
        choices = draw_plan(rng, problem.level, stage.habits)
        exactly = PROBED_PASSES if stage.slips else None
        example = encoder.example(problem, write(problem, choices, stage.habits, exactly=exactly))
        wanted -= len(example.ids)
        drafts.append((problem, choices))
        clean.append(example)
    if stage.slips:
        generator = torch.Generator().manual_seed(rng.getrandbits(60))
        slips = sample_slips(clean, plan.batch_tokens, encoder, model, generator)
        for (_, choices), own in zip(drafts, slips, strict=True):
            for number, later in enumerate(choices.passes):
                for segment in range(len(later.segments)):
                    if number >= PROBED_PASSES and rng.random() < LATE_SLIP:
                        own[number, segment, rng.randrange(2)] = rng.randrange(1, 10)
        clean = [
            encoder.example(problem, write(problem, choices, stage.habits, own))
            for (problem, choices), own in zip(drafts, slips, strict=True)
        ]
    pad = encoder.tokenizer.pad_token_id
    batches = [collate(group, pad) for group in bucketed(clean, plan.batch_tokens)]
    rng.shuffle(batches)
    return batches


def sample_slips(
    clean: list[Example],
    budget: int,
    encoder: Encoder,
    model: LlamaForCausalLM,
    generator: torch.Generator,
) -> list[dict[Slot, int]]:
    """Sample every result from the model, given right ones before it; return the offsets.

    So the wrong results a trace goes on from are those the model finds likely: it learns to
    doubt its own mistakes, not random digits.
    """
    digits = torch.tensor([encoder.ids(f" {d}")[0] for d in range(10)])
    offsets: dict[int, dict[Slot, int]] = {}
    for group in bucketed(clean, 2 * budget):
        batch = collate(group, encoder.tokenizer.pad_token_id)
        places = [(row, at - 1) for row, e in enumerate(group) for at in e.slots.values()]
        rows, cols = (torch.tensor(side) for side in zip(*places, strict=True))
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
            logits = hidden[rows, cols] @ model.lm_head.weight[digits].T
        shares = torch.softmax(logits.float() / recipe.TEMPERATURE, dim=-1)
        found = torch.multinomial(shares, 1, generator=generator)[:, 0]
        truth = (batch.ids[rows, cols + 1, None] == digits).int().argmax(dim=-1)
        gaps = iter(((found - truth) % 10).tolist())
        for example in group:
            drawn = {slot: next(gaps) for slot in example.slots}
            offsets[id(example)] = {slot: gap for slot, gap in drawn.items() if gap}
    return [offsets[id(example)] for example in clean]
