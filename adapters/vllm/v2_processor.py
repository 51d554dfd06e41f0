"""Forces decided tokens under the V2 runner, by its own logits-processor interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcessor

from adapters.vllm.request_options import RequestOptions
from stopper.errors import InputError

if TYPE_CHECKING:
    import torch

    from adapters.vllm.watch import Forced


class ForcingProcessor(LogitsProcessor):  # type: ignore[misc,unused-ignore]
    """Writes what the worker decided before sampling.

    It runs after grammar and penalties, on a copy of the logits: raw log-probabilities stay the
    model's own.
    """

    forced: Forced | None

    def __init__(self) -> None:
        self.forced = None

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """Ask for processed logits where a request may be stopped, be it on demand in an audit."""
        try:
            options = RequestOptions.from_extra_args(sampling_params.extra_args)
        except InputError:
            return False  # the session reports it
        return options.mode != "off"

    def apply(self, logits: torch.Tensor, ctx: Any) -> torch.Tensor:
        """Raise the forced tokens' logits; once per step."""
        forced, self.forced = self.forced, None
        if forced is not None:
            forced.write(logits)
        return logits
