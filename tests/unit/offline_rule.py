"""What the offline rule says of an output that was never stopped: one pass, one replay."""

from __future__ import annotations

from typing import Any

import torch

from probes.events import CueEvent, Trace
from probes.shaping import shape
from stopper.artifact import Artifact
from stopper.policy import StopPolicy
from stopper.replaying import Replayed, replay


def replayed(
    artifact: Artifact, model: Any, prompt_ids: list[int], output_ids: list[int], alpha: float
) -> Replayed:
    """Score all cues of a full output at once and decide as ``stopper replay`` does."""
    assert artifact.cues is not None and artifact.probe is not None
    events = artifact.cues.events(prompt_ids, output_ids[:-1])  # the last one is never fed
    with torch.inference_mode():
        seen = model(torch.tensor([[*prompt_ids, *output_ids]]), output_hidden_states=True)
    rows = [len(prompt_ids) + index for index, _ in events]
    layers = artifact.probe.spec.layers
    hidden = torch.cat([seen.hidden_states[layer][0, rows] for layer in layers], dim=-1)
    scores = shape(artifact.probe.score(hidden.numpy()), artifact.probe.spec).tolist()
    cues = tuple(
        CueEvent(position=index + 1, score=score)
        for (index, _), score in zip(events, scores, strict=True)
    )
    trace = Trace("trace", "group", len(output_ids), None, cues)
    policy = StopPolicy.from_artifact(artifact)
    (found,) = replay(policy, alpha, "disagree", [(trace, [label for _, label in events])])
    return found
