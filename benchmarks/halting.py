"""Does a halted step save its time? Wall-clock speed-up over step speed-up, in one run.

    python benchmarks/halting.py [--prompts 32] [--repeats 3] [--seed 0]

Decodes the same prompts in full and halted, one at a time and sixteen at a time, by turns, and
divides the speed-up in seconds by the speed-up in forward passes: 1 means that a saved pass saves
its whole time, and that looking at the margins and letting rows leave costs nothing. Beside it,
what the rule costs where it never halts. Uses the tiny diffusion model where its weights are, or
else random weights of about that size, whose answers mean nothing and whose passes cost the same.
The level is set so that halted decodes take about a third of the passes.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from adapters.transformers import DiffusionLM, Method, Request, Sampler, compare, load, record
from calibration.denoising import replay
from stopper.halting import HaltingRule
from stopper.schedule import Schedule

WEIGHTS = Path(__file__).resolve().parents[1] / "examples" / "tiny_diffusion" / "model"
RULE = HaltingRule(Schedule("linear", 7.5, 2.5))


def model_to_time() -> tuple[DiffusionLM, str]:
    """Return the tiny diffusion model, or random weights of about its size."""
    if (WEIGHTS / "config.json").is_file() and (WEIGHTS / "model.safetensors").is_file():
        return load(WEIGHTS), "tiny diffusion model"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=96,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        max_position_embeddings=256,
        initializer_range=0.1,
    )
    return DiffusionLM(LlamaForCausalLM(config), mask_token_id=1, end_ids=[2]), "random weights"


def level_for(model: DiffusionLM, requests: list[Request], sampler: Sampler, share: float) -> float:
    """Return the level at which the recorded decodes take this share of their passes."""
    table = record(model, requests, sampler)
    scores = RULE.scores(table.column(RULE.signal), table.progress, table.changed)
    levels = sorted({float(score) for score in scores if score > -float("inf")})
    wanted = share * table.full_steps().sum()
    below, above = 0, len(levels) - 1
    while below < above:
        middle = (below + above) // 2
        if replay(scores, levels[middle], table).steps.sum() < wanted:
            below = middle + 1
        else:
            above = middle
    return levels[below]


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--prompts", type=int, default=32)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()

    model, what = model_to_time()
    rng = random.Random(asked.seed)
    free = [token for token in range(model.vocab_size) if token != model.mask_token_id]
    requests = [
        Request(tuple(rng.choices(free, k=rng.randint(8, 24))), name=f"prompt-{number}")
        for number in range(asked.prompts)
    ]
    sampler = Sampler(canvas_length=36)
    level = level_for(model, requests, sampler, 1 / 3)
    methods = [
        Method("halted", "the rule at its level", rule=RULE, level=level),
        Method("never", "the rule at a level that never halts", rule=RULE, level=float("inf")),
    ]
    found: dict[str, object] = {"model": what, "prompts": asked.prompts, "level": round(level, 3)}
    for size in (1, 16):
        _, halted, never = compare(
            model, requests, sampler, methods, batch_size=size, repeats=asked.repeats
        )
        found[f"batch_{size}"] = {
            "step_speedup": round(halted.step_speedup, 3),
            "wall_speedup": round(halted.wall_speedup, 3),
            "wall_over_step": round(halted.wall_speedup / halted.step_speedup, 3),
            "cost_of_looking": round(1 / never.wall_speedup - 1, 4),
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
