"""SGLang's low-confidence denoising with a halting rule: `--dllm-algorithm StopperLowConfidence`.

It can be imported inside SGLang only; :mod:`adapters.sglang.plugin` does so.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import torch
from sglang.srt.dllm.algorithm.low_confidence import LowConfidence

from adapters.sglang.blocks import Halted
from adapters.sglang.settings import block_halting

logger = logging.getLogger(__name__)


class StopperLowConfidence(LowConfidence):  # type: ignore[misc,unused-ignore]
    """Fills in all masks of a block once its logits have settled; else SGLang's own steps."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.halting = block_halting(
            config.algorithm_config, block_size=self.block_size, threshold=self.threshold
        )
        self.fail_open: Counter[str] = Counter()

    def step(self, forward_batch: Any, full_logits: torch.Tensor, states: list[Any]) -> list[bool]:
        """Advance as SGLang does, then fill in what is halted; see the base class."""
        shape = (forward_batch.batch_size, self.block_size)
        masked = forward_batch.input_ids.view(shape) == self.mask_id
        prompt = getattr(forward_batch, "dllm_prompt_mask", None)
        if prompt is not None:  # a mask token that stands in the prompt is no mask
            masked = masked & ~prompt
        halted = self._halted(full_logits, masked, states)
        # A block is done once a forward pass has seen it without masks: not in this step.
        done: list[bool] = super().step(forward_batch, full_logits, states)
        if halted is not None:
            filled = halted.fill(forward_batch.input_ids.view(shape), masked)
            forward_batch.input_ids.copy_(filled.view(-1))  # in place, for CUDA graphs
        return done

    def _halted(
        self, full_logits: torch.Tensor, masked: torch.Tensor, states: list[Any]
    ) -> Halted | None:
        try:
            logits = full_logits.view(*masked.shape, -1)
            return self.halting.advance(logits, masked, states)
        except Exception:  # fail open: the blocks go on as without stopper
            self.fail_open["step"] += 1
            logger.exception("stopper: fault in a step; nothing is halted in it")
            return None


Algorithm = StopperLowConfidence
