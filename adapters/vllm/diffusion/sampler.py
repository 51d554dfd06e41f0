"""Stands before vLLM's own diffusion sampler and lowers the step cap of requests that halt.

vLLM ends a canvas at the step that reaches the request's cap. So a halt needs no change in vLLM:
for the length of one call the cap is the very step that is being taken. vLLM then commits that
step's argmaxes as it does at the end of any canvas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from adapters.vllm.diffusion.batch import Batches
from adapters.vllm.diffusion.decision import CanvasState, Decision, Rows, decide
from stopper.halting import HaltingRule

if TYPE_CHECKING:
    from adapters.vllm.diffusion.session import DiffusionSession


class HaltingSampler:
    """vLLM's `DiffusionSampler` with a halting rule in front; all but the call is the original's.

    Parameters
    ----------
    original
        The runner's sampler, with `diffusion_states`.
    rule
        When to halt.
    session
        Knows the requests, and is told what was decided. A fault of ours goes to its count.

    """

    def __init__(self, original: Any, rule: HaltingRule, session: DiffusionSession) -> None:
        self._original = original
        self._rule = rule
        self._session = session
        self._states = original.diffusion_states
        self._batches = Batches(rule, self._states.device)

    def __getattr__(self, name: str) -> Any:
        """Return the original's attribute: the runner asks for several."""
        return getattr(self._original, name)

    def __call__(self, logits: torch.Tensor, input_batch: Any, draft_logits: Any = None) -> Any:
        """Lower caps, let vLLM sample, and put the caps back."""
        caps = self._states.max_steps
        before = None
        if self._session.following and input_batch.num_draft_tokens:
            lowered = self._session.survive("step", lambda: self._lowered(logits, input_batch))
            if lowered is not None:
                before = caps.clone()
                caps.copy_(lowered)
        try:
            return self._original(logits, input_batch, draft_logits)
        finally:
            if before is not None:
                caps.copy_(before)

    def _lowered(self, logits: torch.Tensor, input_batch: Any) -> torch.Tensor | None:
        """Return the caps of all slots for this call; None where nobody is watched."""
        number = input_batch.num_reqs
        found = self._batches.rows(
            input_batch.req_ids[:number],
            input_batch.idx_mapping_np[:number],
            np.diff(input_batch.cu_num_logits_np[: number + 1]),
            self._session.watched,
        )
        if found is None:
            return None
        watched, rows = found
        states = self._states
        state = CanvasState(
            canvas=states.canvas,
            argmax_canvas=states.argmax_canvas,
            step=states.step,
            committing=states.is_encoder_phase,
        )
        decision = decide(self._rule, logits, rows, state)
        self._session.log(watched, decision)
        return lowered_caps(states.max_steps, rows, decision)


def lowered_caps(caps: torch.Tensor, rows: Rows, decision: Decision) -> torch.Tensor:
    """Return all slots' caps, those of halting requests at the step that is being taken."""
    now = caps[rows.slots]
    halted = torch.where(decision.halts & rows.stops, (decision.step + 1).to(now.dtype), now)
    return caps.index_copy(0, rows.slots, halted)
