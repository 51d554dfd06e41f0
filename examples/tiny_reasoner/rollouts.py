"""Samples traces from the model, forces exits at their cues, and keeps the cues' hidden states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache, LlamaForCausalLM, PreTrainedTokenizerFast

from examples.tiny_reasoner import words
from examples.tiny_reasoner.problems import Problem
from examples.tiny_reasoner.tokens import prompt_text

T = TypeVar("T")

CUE_WORDS = ("wait", "hmm", "alternatively")


@dataclass(slots=True)
class Cue:
    """One cue of a trace: where its last token is, its word, the answer forced there."""

    at: int
    word: str
    forced: int = -1


@dataclass(slots=True)
class Rollout:
    """One trace: ids of prompt and output, the answer (-1: none), its cues, hidden states."""

    problem: Problem
    prompt: list[int]
    output: list[int]
    answer: int = -1
    thinking: int = 0
    cues: list[Cue] = field(default_factory=list)
    hidden: NDArray[np.float32] | None = None  # [cues, layers * width]


def generate(
    model: LlamaForCausalLM,
    prompts: list[list[int]],
    generator: torch.Generator,
    *,
    temperature: float,
    top_p: float,
    max_length: int = 512,
) -> list[list[int]]:
    """Sample one continuation per prompt; prompts are padded on the left to one length."""
    config = model.config
    width = max(map(len, prompts))
    ids = torch.tensor([[config.pad_token_id] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    outputs: list[list[int]] = [[] for _ in prompts]
    alive = torch.arange(len(prompts))
    cache = DynamicCache(config=config)
    while True:
        with torch.no_grad():
            logits = model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache
            ).logits[:, -1]
        token = sample(logits, temperature, top_p, generator)
        for row, value in zip(alive.tolist(), token.tolist(), strict=True):
            outputs[row].append(value)
        keep = token != config.eos_token_id
        if not bool(keep.any()) or mask.shape[1] + 1 > max_length:
            return outputs
        if bool((~keep).sum() * 4 > len(keep)) or len(keep) < 32:
            # Finished rows are dropped once a quarter is finished: until then they run on.
            cache.batch_select_indices(keep.nonzero()[:, 0])
            alive, token = alive[keep], token[keep]
            mask, positions = mask[keep], positions[keep]
        ids = token[:, None]
        mask = torch.cat([mask, torch.ones(len(mask), 1, dtype=mask.dtype)], dim=1)
        positions = positions[:, -1:] + 1


def sample(
    logits: torch.Tensor, temperature: float, top_p: float, generator: torch.Generator
) -> torch.Tensor:
    """Sample ids [rows] from logits [rows, vocabulary], nucleus ``top_p``."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    shares, order = torch.softmax(logits.float() / temperature, dim=-1).sort(descending=True)
    shares[shares.cumsum(-1) - shares >= top_p] = 0
    picked = torch.multinomial(shares, 1, generator=generator)
    return order.gather(-1, picked)[:, 0]


class Roller:
    """Rolls out problems with one model and tokenizer."""

    def __init__(self, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self._close = tokenizer.convert_tokens_to_ids(words.END_THINK)
        self._prefix = [self._close, *tokenizer.encode(words.ANSWER_PREFIX)]
        self._digits = tokenizer.convert_tokens_to_ids([str(d) for d in range(10)])

    def roll(
        self, problems: list[Problem], *, temperature: float, top_p: float, seed: int, rows: int
    ) -> list[Rollout]:
        """Sample a trace per problem, then force an exit at every cue."""
        generator = torch.Generator().manual_seed(seed)
        rollouts: list[Rollout] = []
        # Like lengths together; the order of the traces does not matter to anybody.
        problems = sorted(problems, key=lambda problem: problem.level)
        for start in range(0, len(problems), rows):
            chunk = problems[start : start + rows]
            prompts = [self.tokenizer.encode(prompt_text(p.text)) for p in chunk]
            outputs = generate(self.model, prompts, generator, temperature=temperature, top_p=top_p)
            rollouts += [self._read(*each) for each in zip(chunk, prompts, outputs, strict=True)]
        self._force(rollouts)
        self._keep_hidden(rollouts)
        return rollouts

    def _read(self, problem: Problem, prompt: list[int], output: list[int]) -> Rollout:
        end = self.model.config.eos_token_id
        output = output[: output.index(end) + 1] if end in output else output
        closed = self._close in output
        rollout = Rollout(problem, prompt, output)
        rollout.thinking = output.index(self._close) if closed else len(output)
        if closed:
            tail = [self._digits.index(t) for t in output[rollout.thinking :] if t in self._digits]
            rollout.answer = tail[-1] if tail else -1
        tokens = self.tokenizer.convert_ids_to_tokens(output[: rollout.thinking])
        previous = ""
        for at, token in enumerate(tokens):
            word = token.lstrip("Ġ").lower()
            word = "alternatively" if previous == "altern" and word == "atively" else word
            if word in CUE_WORDS:
                rollout.cues.append(Cue(at, word))
            previous = word
        return rollout

    def _force(self, rollouts: list[Rollout]) -> None:
        pairs = [
            (r.prompt + r.output[: cue.at + 1] + self._prefix, cue)
            for r in rollouts
            for cue in r.cues
        ]
        for rows in _by_length(pairs, lambda pair: len(pair[0])):
            hidden = self._hidden([ids for ids, _ in rows], all_layers=False)
            for (ids, cue), states in zip(rows, hidden, strict=True):
                scores = self.model.lm_head(states[len(ids) - 1])
                token = int(scores.argmax())
                cue.forced = self._digits.index(token) if token in self._digits else -1

    def _keep_hidden(self, rollouts: list[Rollout]) -> None:
        with_cues = [r for r in rollouts if r.cues]
        for rows in _by_length(with_cues, lambda r: len(r.prompt) + r.thinking):
            hidden = self._hidden([r.prompt + r.output[: r.thinking] for r in rows], True)
            for rollout, states in zip(rows, hidden, strict=True):
                at = [len(rollout.prompt) + cue.at for cue in rollout.cues]
                rollout.hidden = states[at].numpy()

    def _hidden(self, ids: list[list[int]], all_layers: bool) -> torch.Tensor:
        length = max(map(len, ids))
        padded = torch.tensor([i + [0] * (length - len(i)) for i in ids])
        with torch.no_grad():
            out = self.model.model(
                input_ids=padded, use_cache=False, output_hidden_states=all_layers
            )
        if not all_layers:
            return out.last_hidden_state
        return torch.cat(out.hidden_states[1:], dim=-1)


def _by_length(
    items: list[T], length: Callable[[T], int], budget: int = 16_384
) -> Iterator[list[T]]:
    group: list[T] = []
    for item in sorted(items, key=length):
        if group and (len(group) + 1) * length(item) > budget:
            yield group
            group = []
        group.append(item)
    if group:
        yield group
