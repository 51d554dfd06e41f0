"""Where blocks of masked tokens are halted, given the logits of one denoising step. No SGLang.

A block is what SGLang decodes at a time: `L` positions, some still masked. Its planned steps are
the masks it begins with, since every step fills in at least one; progress counts over them. A halt
fills all masks with their argmax. The forward pass that follows sees no mask, and SGLang takes the
block as done only then, when the cache holds its final tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from probes.torch_margins import aggregate, argmax_changed, halting_scores, top2_margins
from stopper.halting import HaltingRule


@dataclass(slots=True)
class BlockState:
    """One block between two steps.

    Attributes
    ----------
    span
        bool [L]: the positions to be generated; in a request's first block the others are prompt.
    steps
        Planned.
    step
        Of the next call, from 0.
    best
        int64 [L]: argmaxes of the step before; None at the first.

    """

    span: torch.Tensor
    steps: int
    step: int = 0
    best: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class Halted:
    """What one step came to: bool [B], float32 [B], int64 [B, L]."""

    halts: torch.Tensor
    scores: torch.Tensor
    best: torch.Tensor

    def fill(self, tokens: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """Return tokens [B, L] with the masks of halted blocks filled in."""
        return torch.where(self.halts.unsqueeze(1) & masked, self.best.to(tokens.dtype), tokens)


@dataclass(frozen=True, slots=True)
class BlockHalting:
    """A rule and its level, applied to batches of blocks."""

    rule: HaltingRule
    level: np.float32
    _tables: dict[int, npt.NDArray[np.float32]] = field(default_factory=dict)

    def advance(
        self, logits: torch.Tensor, masked: torch.Tensor, states: list[BlockState | None]
    ) -> Halted:
        """Judge one step of every block, and carry its state on.

        Parameters
        ----------
        logits
            [B, L, V], of any floating dtype.
        masked
            bool [B, L], before this step fills anything in.
        states
            One for each block, None for one that has not begun; replaced in place. A block without
            masks is done: it keeps its state and never halts.

        """
        counts = masked.sum(dim=1).tolist()
        for row, count in enumerate(counts):
            if states[row] is None and count:
                states[row] = BlockState(masked[row].clone(), count)
        best = logits.argmax(dim=-1)
        span = torch.stack([masked[n] if s is None else s.span for n, s in enumerate(states)])
        region = masked if self.rule.region == "masked" else span
        signal = aggregate(top2_margins(logits), region, self.rule.aggregate)
        thresholds = torch.tensor([self._threshold(state) for state in states])
        changed = self._changed(best, masked, states) if self.rule.stable_argmax else None
        scores = halting_scores(signal, thresholds.to(signal.device), changed)
        running = torch.tensor([count > 0 for count in counts], device=scores.device)
        scores = torch.where(running, scores, -torch.inf)
        for row, state in enumerate(states):
            if state is not None and counts[row]:
                state.step, state.best = state.step + 1, best[row]
        return Halted(scores > float(self.level), scores, best)

    def _threshold(self, state: BlockState | None) -> float:
        if state is None:
            return 0.0  # no masks: not looked at
        table = self._tables.get(state.steps)
        if table is None:
            table = self._tables[state.steps] = self.rule.thresholds(state.steps)
        return float(table[min(state.step, state.steps - 1)])

    @staticmethod
    def _changed(
        best: torch.Tensor, masked: torch.Tensor, states: list[BlockState | None]
    ) -> torch.Tensor:
        before = [
            best[n] if state is None or state.best is None else state.best
            for n, state in enumerate(states)
        ]
        first = [state is None or state.best is None for state in states]
        begins = torch.tensor(first, device=best.device)
        return begins | argmax_changed(best, torch.stack(before), masked)
