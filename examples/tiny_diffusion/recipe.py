"""The recipe: sizes, rates, masks and loss weights."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import LlamaConfig

from examples.tiny_diffusion.problems import FULL, SHARES
from examples.tiny_diffusion.tokens import TASKS

CANVAS = 48
"""Positions to fill after every prompt."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of the training.

    ``size`` caps the problems' length; ``canvases`` are drawn uniformly, one for each batch;
    ``shares`` are relative weights of tasks; ``ahead`` is, per task, the share of rows of which
    one cell alone is learned, see ``draw_masks``.
    """

    pools: int
    size: int
    rows: int
    canvases: tuple[int, ...]
    shares: dict[str, int]
    ahead: dict[str, float]


def _each(share: float) -> dict[str, float]:
    return dict.fromkeys(TASKS, share)


_PLAIN = {"copy": 4, "reverse": 4, "sort": 4, "follow": 3, "walk": 2}
_CHAINS = {"copy": 2, "reverse": 1, "sort": 2, "follow": 6, "walk": 1}
STAGES = (
    Stage(18, 6, 96, (8,), SHARES, _each(1.0)),
    Stage(14, 6, 96, (10,), _PLAIN, _each(0.2)),
    Stage(40, FULL, 64, (10, 10, 24, CANVAS), SHARES, _each(0.15)),
    Stage(12, FULL, 64, (10, 24, CANVAS), _CHAINS, _each(0.1) | {"follow": 1.0}),
    Stage(10_000, FULL, 64, (10, 24, CANVAS), _CHAINS, _each(0.1) | {"follow": 0.5}),
)


@dataclass(frozen=True, slots=True)
class Cycle:
    """Steps at one learning rate, of which the last share falls to a fiftieth, linearly."""

    steps: int
    rate: float
    decay_from: float


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights; the same recipe and machine give the same model."""

    seed: int = 7
    cycles: tuple[Cycle, ...] = (Cycle(1800, 1.0, 0.6), Cycle(900, 0.4, 0.5))
    stages: tuple[Stage, ...] = STAGES
    batches_per_pool: int = 25
    lr: float = 2e-3
    muon_lr: float = 0.02
    warmup: int = 30
    end_weight: float = 0.05  # loss weight of the tail, all end-of-text but its first
    ahead_weight: float = 4.0  # of a cell that is learned alone, so that its row counts
    end_smoothing: float = 0.2
    hidden: int = 128
    layers: int = 4
    mlp: int = 256

    def stage(self, pool: int) -> Stage:
        """Return the stage that pool ``pool`` belongs to."""
        for stage in self.stages:
            if pool < stage.pools:
                return stage
            pool -= stage.pools
        return self.stages[-1]

    @property
    def steps(self) -> int:
        """All steps of all cycles."""
        return sum(cycle.steps for cycle in self.cycles)

    def learning_rate(self, step: int) -> float:
        """Return the factor on the learning rates at ``step``."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        for cycle in self.cycles:
            if step < cycle.steps:
                break
            step -= cycle.steps
        done = max(0.0, (step / cycle.steps - cycle.decay_from) / (1 - cycle.decay_from))
        return cycle.rate * (1.0 - 0.98 * min(done, 1.0))

    def config(self, vocab_size: int, eos: int, pad: int) -> LlamaConfig:
        """Return the configuration: Llama's blocks, read with full attention in both directions."""
        heads = self.hidden // 32
        return LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=self.hidden,
            intermediate_size=self.mlp,
            num_hidden_layers=self.layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=128,
            tie_word_embeddings=False,
            eos_token_id=eos,
            bos_token_id=None,
            pad_token_id=pad,
            dtype="float32",
        )
