"""`model.generate` of Hugging Face transformers, in a batch, each row stopped by itself: no vLLM.

    python examples/stopping_criteria.py [--prompts 6] [--alpha 0.05] [--seed 0] [--audit]

A `StoppingCriteria` can only end a row. To end its *thinking* and let it answer takes a logits
processor: `ThinkingStopper`. Needs `pip install 'stopper[vllm]'`, and no vLLM.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from adapters.transformers import ThinkingOutcome, ThinkingStopper
from stopper.artifact import Artifact

TINY = Path(__file__).parent / "tiny_reasoner"


def main(arguments: list[str] | None = None) -> tuple[list[ThinkingOutcome], torch.Tensor]:
    """Answer a batch of held-out prompts; return what was decided, and the token ids."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=6, help="rows of the batch")
    parser.add_argument("--alpha", type=float, help="tolerated share of bad stops")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--audit", action="store_true", help="mark where it would stop, no more")
    asked = parser.parse_args(arguments)
    tokenizer = AutoTokenizer.from_pretrained(TINY / "model", padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(TINY / "model")
    artifact = Artifact.load(TINY / "artifact")

    lines = (TINY / "problems" / "test.jsonl").read_text("utf-8").splitlines()[: asked.prompts]
    chats = [json.loads(line)["messages"] for line in lines]
    texts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    names = ("temperature", "top_p", "top_k")
    sampling = {name: artifact.manifest.sampling[name] for name in names}
    set_seed(asked.seed)
    with ThinkingStopper(model, artifact, asked.alpha, audit=asked.audit) as stopper:
        ids = model.generate(
            **inputs, **sampling, do_sample=True, max_new_tokens=400, logits_processor=[stopper]
        )
    outputs = tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :])
    for row, (outcome, text) in enumerate(zip(stopper.outcomes(), outputs, strict=True)):
        thinking, _, answer = text.partition("</think>")
        tokens = len(tokenizer.encode(thinking, add_special_tokens=False))
        print(
            f"row {row}: {outcome.decision}, {outcome.reason}, {tokens} thinking tokens, "
            f"cue {outcome.label!r}: {answer.partition('<|end|>')[0].strip()}"
        )
    return stopper.outcomes(), ids


if __name__ == "__main__":
    main()
