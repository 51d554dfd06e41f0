"""stopper as a library, in a generation loop of your own: plain transformers, no vLLM.

    python examples/transformers_loop.py [--prompts 3] [--alpha 0.05] [--seed 0]

One prompt at a time, every part by hand: find a cue in the token ids, score the hidden state there,
shape the score, decide, close the thinking, let the model answer. Each prompt is also left to think
to its end with the same random numbers, for comparison. `stopping_criteria.py` does the same for
batches in `model.generate`, with less to write. Needs `pip install 'stopper[vllm]'`, and no vLLM.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from calibration.comparers import get_comparer
from probes.shaping import RunningShape
from stopper.artifact import Artifact
from stopper.policy import Decision, StopPolicy

TINY = Path(__file__).parent / "tiny_reasoner"


@dataclass
class Run:
    """One generation: token ids, the score at each cue, and the stop, if there was one."""

    prompt_ids: list[int]
    output_ids: list[int] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)  # (position, shaped score)
    decision: Decision | None = None  # of the last cue
    position: int | None = None  # thinking tokens at the stop


def generate(
    model: Any, artifact: Artifact, prompt_ids: list[int], alpha: float | None, seed: int
) -> Run:
    """Sample one answer; with an alpha, end the thinking when the artifact's rule says so."""
    sampling, closing = artifact.manifest.sampling, artifact.manifest.closing
    policy = StopPolicy.from_artifact(artifact)
    cues = artifact.cues.follow(prompt_ids)  # finds the cues, one token at a time
    shaper = RunningShape(artifact.probe.spec)  # what the score needs to know of the trace so far
    random = torch.Generator().manual_seed(seed)
    run, forced, cache = Run(prompt_ids), [], None
    feed, label = prompt_ids, None
    while len(run.output_ids) < sampling["max_tokens"]:
        with torch.inference_mode():
            seen = model(
                input_ids=torch.tensor([feed]), past_key_values=cache, output_hidden_states=True
            )
        cache = seen.past_key_values
        if label is not None and alpha is not None and run.position is None:
            layers = artifact.probe.spec.layers  # hidden_states[i] is the output of block i
            hidden = torch.cat([seen.hidden_states[layer][0, -1] for layer in layers])
            score = shaper.push(artifact.probe.score(hidden.float().numpy()[None])[0])
            run.scores.append((cues.position, float(score)))
            run.decision = policy.decide(score, alpha)
            if run.decision.stop:
                run.position = cues.position
                forced = [*closing.end_ids, *closing.answer_prompt_ids]
        token = forced.pop(0) if forced else sample(seen.logits[0, -1], sampling, random)
        run.output_ids.append(token)
        if token == model.generation_config.eos_token_id:
            break
        feed, label = [token], cues.push(token)
    return run


def sample(logits: torch.Tensor, sampling: dict[str, Any], random: torch.Generator) -> int:
    """Draw a token as the calibration traces were drawn: the promise is about such traces."""
    shares, order = (logits.float() / sampling["temperature"]).softmax(-1).sort(descending=True)
    shares[shares.cumsum(-1) - shares >= sampling["top_p"]] = 0
    return int(order[torch.multinomial(shares, 1, generator=random)])


def main(arguments: list[str] | None = None) -> list[tuple[Run, Run]]:
    """Run some held-out prompts twice, stopped and in full, and return both runs of each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=3, help="how many")
    parser.add_argument("--alpha", type=float, help="tolerated share of bad stops")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    tokenizer = AutoTokenizer.from_pretrained(TINY / "model")
    model = AutoModelForCausalLM.from_pretrained(TINY / "model")
    artifact = Artifact.load(TINY / "artifact")
    alpha = asked.alpha or artifact.manifest.calibration.alpha
    compare = get_comparer(artifact.manifest.comparer)
    runs = []
    lines = (TINY / "problems" / "test.jsonl").read_text("utf-8").splitlines()
    for number, line in enumerate(lines[: asked.prompts]):
        text = tokenizer.apply_chat_template(
            json.loads(line)["messages"], tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer.encode(text, add_special_tokens=False)
        seed = asked.seed + number
        stopped = generate(model, artifact, ids, alpha, seed)
        full = generate(model, artifact, ids, None, seed)
        answers = [compare.extract(tokenizer.decode(run.output_ids)) for run in (stopped, full)]
        same = "the same" if compare.same(*answers) else "another"
        print(
            f"prompt {number}: {stopped.decision.reason if stopped.decision else 'no_cue'} at "
            f"{stopped.position}, {len(stopped.output_ids)} tokens instead of "
            f"{len(full.output_ids)}, answer {answers[0]}, {same} as in full"
        )
        runs.append((stopped, full))
    return runs


if __name__ == "__main__":
    main()
