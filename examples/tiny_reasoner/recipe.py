"""The recipe: sizes, loss weights, and the curriculum of stages."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import LlamaConfig

from examples.tiny_reasoner.traces import Habits, Kind

TEMPERATURE = 0.8
TOP_P = 0.95

LOSS_WEIGHTS = {
    Kind.PROMPT: 0.0,
    Kind.FRAME: 1.0,
    Kind.CHOICE: 1.0,
    Kind.COPY: 6.0,
    Kind.FINE: 3.0,
    Kind.LEAP: 3.0,
    Kind.SLIP: 0.0,
    Kind.DOUBT: 4.0,
    Kind.ANSWER: 3.0,
}


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the curriculum; it ends when every gate is passed, or after ``pools``."""

    name: str
    levels: range
    habits: Habits
    gates: dict[Kind, float]
    pools: int
    slips: bool = False


def _gates(fine: float, copy: float) -> dict[Kind, float]:
    return {Kind.FINE: fine, Kind.COPY: copy}


_ONE_FINE_PASS = Habits(fine_pass=(1.0,) * 6, passes=1, cut=0.0)
_ONE_PASS = Habits(
    fine_pass=(0.3,) * 6, passes=1, cut=0.0, careful=0.1, hasty_leaps=(0.75, 0.2, 0.05)
)
_CALM = Habits(careful=0.7, careful_leaps=(0.85, 0.15), hasty_leaps=(0.6, 0.3, 0.1))

STAGES = (
    Stage("fine, 2-3 steps", range(2, 4), _ONE_FINE_PASS, _gates(0.92, 0.93), 60),
    Stage("fine, 2-6 steps", range(2, 7), _ONE_FINE_PASS, _gates(0.96, 0.94), 30),
    Stage("fine, 2-9 steps", range(2, 10), _ONE_FINE_PASS, _gates(0.97, 0.96), 30),
    Stage("leaps", range(2, 10), _ONE_PASS, {**_gates(0.98, 0.97), Kind.LEAP: 0.60}, 65),
    Stage("calm traces", range(2, 10), _CALM, {}, 153, slips=True),
    Stage("full traces", range(2, 10), Habits(), {}, 10_000, slips=True),
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights; the same recipe and machine give the same model."""

    seed: int = 7
    steps: int = 5400
    decayed: int = 5000  # step at which the decay ends; a short warm tail follows
    batch_tokens: int = 4096
    batches_per_pool: int = 12
    lr: float = 2e-3
    muon_lr: float = 0.02
    warmup: int = 30
    decay_from: float = 0.55  # share of the steps after which the rate falls, linearly
    final_lr: float = 0.03
    tail_lr: float = 0.12
    hidden: int = 128
    layers: int = 4
    mlp: int = 512
    stages: tuple[Stage, ...] = field(default=STAGES)

    def learning_rate(self, step: int) -> float:
        """Return the factor on the learning rates at ``step``."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if step >= self.decayed:
            left = (self.steps - step) / max(self.steps - self.decayed, 1)
            return self.final_lr + self.tail_lr * max(left, 0.0)
        done = (step / self.decayed - self.decay_from) / (1 - self.decay_from)
        return 1.0 if done < 0 else 1.0 - (1.0 - self.final_lr) * done

    def config(self, vocab_size: int, eos: int, pad: int) -> LlamaConfig:
        """Return the model's configuration: Llama with heads of 32, which vLLM serves on CPU.

        Not Qwen2: transformers 5 gives every model of that type Qwen2's own tokenizer.
        """
        heads = self.hidden // 32
        return LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=self.hidden,
            intermediate_size=self.mlp,
            num_hidden_layers=self.layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            attention_bias=True,
            eos_token_id=eos,
            bos_token_id=None,
            pad_token_id=pad,
            dtype="float32",
        )
