"""What looking at the margins adds to one denoising step, on one processor core.

    python benchmarks/margins.py [--rounds 15] [--tiny]

The step is one forward pass of a Llama-style network that attends in both directions, its layer
over the vocabulary included; random weights, float32, no cache. The check is all that a halting
rule adds to it: margins of the canvas, their mean over what is masked, the score, and the decision
brought to the host. The two take turns, and their medians are compared. What a sampler does besides
(argmax, confidence, sorting) is in neither.

Time is that of the thread, so that other programs on the machine matter little; there is one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from adapters.transformers.model import DiffusionLM
from probes.torch_margins import aggregate, halting_scores, top2_margins
from stopper.halting import HaltingRule

PROMPT = 16
STEPS = 32


def network(vocab: int, hidden: int, layers: int, mlp: int) -> LlamaConfig:
    """Return a configuration with heads of the usual 32 to 64 numbers."""
    return LlamaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=8 if hidden >= 512 else 4,
        max_position_embeddings=256,
        pad_token_id=0,
    )


def small(vocab: int) -> LlamaConfig:
    """Return a network far smaller than any in use, beside which the check weighs the most."""
    return network(vocab, hidden=512, layers=8, mlp=1376)


def plain(logits: torch.Tensor) -> torch.Tensor:
    """Return the margins by a selection over the whole vocabulary, as `topk` does it."""
    best = logits.topk(2, dim=-1).values
    return best[..., 0] - best[..., 1]


def cost(config: LlamaConfig, rows: int, canvas: int, rounds: int) -> dict[str, float | int]:
    """Return milliseconds of a step and of the check, and their ratio in percent."""
    torch.manual_seed(0)
    weights = LlamaForCausalLM(config)
    model = DiffusionLM(weights, mask_token_id=config.vocab_size - 1)
    tokens = torch.randint(0, config.vocab_size - 1, (rows, PROMPT + canvas))
    valid = torch.ones_like(tokens, dtype=torch.bool)
    at = torch.arange(PROMPT, PROMPT + canvas).expand(rows, canvas)
    masked = torch.rand(rows, canvas) < 0.5
    table = torch.from_numpy(HaltingRule().thresholds(STEPS))
    step = torch.arange(rows) % STEPS
    changed = torch.zeros(rows, dtype=torch.bool)

    def forward() -> torch.Tensor:
        return model.logits(tokens, valid, at)

    def check(logits: torch.Tensor) -> Any:
        signal = aggregate(top2_margins(logits), masked, "mean")
        return (halting_scores(signal, table[step], changed) > 0.0).tolist()

    spent: dict[str, list[float]] = {"step": [], "check": [], "topk": []}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        start = time.thread_time()
        result = call()
        spent[name].append(time.thread_time() - start)
        return result

    with torch.inference_mode():
        for _ in range(rounds + 1):
            logits = timed("step", forward)
            timed("check", lambda seen=logits: check(seen))
            timed("topk", lambda seen=logits: plain(seen))
    middle = {name: 1e3 * statistics.median(times[1:]) for name, times in spent.items()}
    return {
        "vocabulary": config.vocab_size,
        "hidden": config.hidden_size,
        "layers": config.num_hidden_layers,
        "parameters_million": round(sum(p.numel() for p in weights.parameters()) / 1e6, 1),
        "rows": rows,
        "canvas": canvas,
        "step_ms": round(middle["step"], 3),
        "check_ms": round(middle["check"], 3),
        "percent": round(100 * middle["check"] / middle["step"], 2),
        "topk_alone_ms": round(middle["topk"], 3),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tiny", action="store_true", help="the tiny network alone")
    given = parser.parse_args()
    rounds: int = given.rounds
    torch.set_num_threads(1)
    tiny = network(141, hidden=128, layers=4, mlp=256)  # as examples/tiny_diffusion
    found = {
        "tiny, 1 row": cost(tiny, 1, 48, 20 * rounds),
        "tiny, 16 rows": cost(tiny, 16, 48, 4 * rounds),
    }
    if not given.tiny:
        found["32k, 1 row"] = cost(small(32_768), 1, 64, rounds)
        found["32k, 16 rows"] = cost(small(32_768), 16, 64, max(3, rounds // 3))
        found["126k, 1 row"] = cost(small(126_464), 1, 64, rounds)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
