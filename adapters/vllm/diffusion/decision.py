"""What one denoising step of vLLM's DiffusionGemma decides, request by request, on the device.

DiffusionGemma has no masks. Each step reads a canvas of tokens, and writes the next one: the tokens
it is sure of are kept, all others are drawn anew. What a halt commits is the argmax of every
position. So the *undecided* positions, the region "masked" of a rule, are those whose token on the
canvas is not the argmax, which a halt would change; where there are none, the whole canvas counts.
The region "span" is always the whole canvas. Progress is step / (T - 1) within the canvas, T being
the request's own cap on steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from probes.torch_margins import aggregate, argmax_changed, halting_scores, top2_margins
from stopper.halting import HaltingRule


@dataclass(frozen=True, slots=True)
class Rows:
    """Which logit rows are whose in one step; tensors on the device, n watched requests.

    Attributes
    ----------
    runs
        Slices of the step's logit rows that belong to watched requests, one after the other.
    at
        int64 [n, W]: index of each canvas position among the rows of `runs`.
    valid
        bool [n, W]: False behind the end of a canvas shorter than W.
    slots
        int64 [n]: where vLLM keeps the request's state.
    table
        float32 [n, T]: the schedule's threshold at each step; behind a request's own T repeated.
    levels
        float32 [n]: what a score must exceed.
    stops
        bool [n]: False for an audit, which is only marked.

    """

    runs: tuple[slice, ...]
    at: torch.Tensor
    valid: torch.Tensor
    slots: torch.Tensor
    table: torch.Tensor
    levels: torch.Tensor
    stops: torch.Tensor


@dataclass(frozen=True, slots=True)
class Decision:
    """Of each watched request, on the device.

    Attributes
    ----------
    step
        int [n], from 0 within the canvas.
    committing
        bool [n]: this step writes a finished canvas into the KV cache and decides nothing.
    score
        float32 [n]; -inf never halts.
    halts
        bool [n]: the score is above the level.
    broken
        bool [n]: a margin of the region is NaN.

    """

    step: torch.Tensor
    committing: torch.Tensor
    score: torch.Tensor
    halts: torch.Tensor
    broken: torch.Tensor

    def packed(self) -> torch.Tensor:
        """Return all of it as one float64 tensor [5, n], to be copied in one go."""
        parts = (self.step, self.committing, self.score, self.halts, self.broken)
        return torch.stack([part.double() for part in parts])


@dataclass(frozen=True, slots=True)
class CanvasState:
    """vLLM's tensors, by slot; named here, so that tests can make them.

    Attributes
    ----------
    canvas, argmax_canvas
        int64 [slots, W]: this step's input, and the argmaxes of the last step.
    step
        int32 [slots]: denoising steps of the canvas done so far.
    committing
        bool [slots]: vLLM's ``is_encoder_phase``.

    """

    canvas: torch.Tensor
    argmax_canvas: torch.Tensor
    step: torch.Tensor
    committing: torch.Tensor


def decide(rule: HaltingRule, logits: torch.Tensor, rows: Rows, state: CanvasState) -> Decision:
    """Score every watched request's step; nothing is written and nothing waits for the device.

    Parameters
    ----------
    logits
        [rows, V], the model's own: before temperature, top-k and top-p.

    """
    parts = [logits[run] for run in rows.runs]
    margins = _joined([top2_margins(part) for part in parts])[rows.at]
    slots, width = rows.slots, rows.at.shape[1]
    step = state.step[slots]
    region, changed = rows.valid, None
    if rule.region == "masked" or rule.stable_argmax:
        best = _joined([part.argmax(dim=-1) for part in parts])[rows.at]
        if rule.region == "masked":
            undecided = region & (state.canvas[slots, :width] != best)
            region = torch.where(undecided.any(dim=1, keepdim=True), undecided, region)
        if rule.stable_argmax:
            before = state.argmax_canvas[slots, :width]
            changed = (step == 0) | argmax_changed(best, before, rows.valid)
    last = rows.table.shape[1] - 1
    at_step = step.long().clamp(max=last).unsqueeze(1)
    thresholds = rows.table.gather(1, at_step).squeeze(1)
    signal = aggregate(margins, region, rule.aggregate)
    score = halting_scores(signal, thresholds, changed)
    committing = state.committing[slots]
    halts = (score > rows.levels) & ~committing
    return Decision(step, committing, score, halts, torch.isnan(signal) & ~committing)


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
