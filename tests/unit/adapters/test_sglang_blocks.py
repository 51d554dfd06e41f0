"""SGLang's blocks: halted where the rule says on logits recorded from a random model."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from diffusion_makers import MASK, llama

from adapters.sglang.blocks import BlockHalting, BlockState
from probes.margins import REGIONS, SIGNALS, aggregate, argmax_changed, top2_margins
from stopper.halting import HaltingRule, progress_at
from stopper.schedule import Schedule

BLOCK, CONFIDENT = 8, 0.25
PROMPTS = [0, 3, BLOCK]  # tokens of the block that are prompt; the last has nothing to decode

RULES = {
    f"{region}.{how}{'.gated' if gate else ''}": HaltingRule(
        Schedule("linear", 1.5, 0.1), how, region, gate
    )
    for how, region, gate in itertools.product(SIGNALS, REGIONS, (False, True))
}


@dataclass
class Recorded:
    """One pass over all blocks, before anything was filled in."""

    tokens: torch.Tensor
    logits: torch.Tensor
    masked: torch.Tensor


@pytest.fixture(scope="module")
def recorded() -> list[Recorded]:
    """A full low-confidence decode, as SGLang's: sure tokens are filled in, at least the surest."""
    model = llama(seed=3)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.full((len(PROMPTS), BLOCK), MASK)
    for row, length in enumerate(PROMPTS):
        tokens[row, :length] = torch.randint(0, MASK, (length,), generator=generator)
    found = []
    while (masked := tokens == MASK).any():
        with torch.no_grad():
            logits = model(tokens).logits
        logits[..., MASK] = -torch.inf
        found.append(Recorded(tokens.clone(), logits, masked))
        chance, best = logits.softmax(dim=-1).max(dim=-1)
        chance = torch.where(masked, chance, -torch.inf)
        surest = torch.zeros_like(masked)
        surest[torch.arange(len(tokens)), chance.argmax(dim=1)] = True
        tokens = torch.where(masked & ((chance > CONFIDENT) | surest), best, tokens)
    return found


def expected(recorded: list[Recorded], row: int, rule: HaltingRule) -> list[np.float32]:
    """The rule's scores of one block, one step at a time."""
    span = recorded[0].masked[row].numpy()
    steps, before, scores = int(span.sum()), None, []
    for at, one in enumerate(recorded):
        masked = one.masked[row].numpy()
        if not masked.any():
            break
        logits = one.logits[row].numpy()
        best = logits.argmax(axis=-1)[np.newaxis]
        region = (masked if rule.region == "masked" else span)[np.newaxis]
        signal = aggregate(top2_margins(logits)[np.newaxis], region, rule.aggregate)[0]
        changed = bool(argmax_changed(best, before, masked[np.newaxis])[0])
        scores.append(rule.score(signal, progress_at(at, steps), changed))
        before = best
    return scores


@pytest.mark.parametrize("name", RULES)
def test_every_block_is_judged_as_the_rule_judges_it_alone(
    recorded: list[Recorded], name: str
) -> None:
    rule = RULES[name]
    halting = BlockHalting(rule, np.float32(0.3))
    states: list[BlockState | None] = [None] * len(PROMPTS)
    seen = [halting.advance(one.logits, one.masked, states) for one in recorded]
    for row in range(len(PROMPTS)):
        scores = expected(recorded, row, rule)
        padded = scores + [np.float32(-np.inf)] * (len(recorded) - len(scores))
        assert [one.scores[row].item() for one in seen] == padded
        assert [one.halts[row].item() for one in seen] == [s > np.float32(0.3) for s in padded]
    assert len(recorded) > 2
    assert [None if s is None else s.steps for s in states] == [BLOCK, BLOCK - 3, None]


def test_a_halt_fills_in_the_argmaxes_of_its_own_masks_alone(recorded: list[Recorded]) -> None:
    one = recorded[0]
    halted = BlockHalting(RULES["span.mean"], np.float32(-100)).advance(
        one.logits, one.masked, [None] * len(PROMPTS)
    )
    assert halted.halts.tolist() == [True, True, False]
    filled = halted.fill(one.tokens, one.masked)
    best = one.logits.argmax(dim=-1)
    assert torch.equal(filled, torch.where(one.masked, best, one.tokens))
    assert filled.dtype == one.tokens.dtype
    never = BlockHalting(RULES["span.mean"], np.float32(np.inf)).advance(
        one.logits, one.masked, [None] * len(PROMPTS)
    )
    assert torch.equal(never.fill(one.tokens, one.masked), one.tokens)


def test_a_block_that_joins_later_has_its_own_progress(recorded: list[Recorded]) -> None:
    halting = BlockHalting(RULES["masked.mean"], np.float32(0))
    alone = halting.advance(recorded[0].logits[:1], recorded[0].masked[:1], [None])
    states: list[BlockState | None] = [None, None]
    for one in recorded[:2]:
        halting.advance(one.logits[:2], one.masked[:2], states)
    states[1] = None  # SGLang hands in None for a fresh block
    mixed = halting.advance(
        torch.stack([recorded[2].logits[0], recorded[0].logits[0]]),
        torch.stack([recorded[2].masked[0], recorded[0].masked[0]]),
        states,
    )
    assert mixed.scores[1] == alone.scores[0]
    assert [state.step for state in states if state] == [3, 1]


def test_a_logit_that_is_no_number_halts_nothing(recorded: list[Recorded]) -> None:
    logits = recorded[0].logits.clone()
    logits[0, 5, 2] = torch.nan
    halted = BlockHalting(RULES["span.mean"], np.float32(-100)).advance(
        logits, recorded[0].masked, [None] * len(PROMPTS)
    )
    assert halted.halts.tolist() == [False, True, False]
