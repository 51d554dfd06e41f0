"""The platform's worker with stopper in it; named by `plugin` as vLLM's `worker_cls`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from vllm.platforms import current_platform

from adapters.vllm.install import Installed, install
from adapters.vllm.rows import v1_rows, v2_rows
from adapters.vllm.session import Session

if TYPE_CHECKING or not current_platform.is_cpu():
    from vllm.v1.worker.gpu_worker import Worker as PlatformWorker
else:
    from vllm.v1.worker.cpu_worker import CPUWorker as PlatformWorker

logger = logging.getLogger(__name__)

CollectedTrace = tuple[str, list[int], list[int], list[float], bytes]


class StopperWorker(PlatformWorker):  # type: ignore[misc,unused-ignore]
    """Reads hidden states at cues between the forward pass and sampling, and forces the end.

    Nothing here runs inside a CUDA graph or a compiled region, and on steps in which no request
    is under watch nothing runs at all.
    """

    _stopper: Installed | None = None

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """Load the model, then install stopper before compilation and graph capture."""
        super().load_model(*args, **kwargs)
        from vllm.distributed.parallel_state import get_pp_group, get_tp_group

        if not get_pp_group().is_last_rank:
            return  # only the last pipeline stage samples
        reports = get_tp_group().rank_in_group == 0
        self._stopper = install(self.vllm_config, self.model_runner, reports=reports)
        if self.use_v2_model_runner and not self._stopper.diffusion:
            from adapters.vllm.v2_processor import ForcingProcessor

            self._forcing = ForcingProcessor()
            self.model_runner.sampler.logits_processors.append(self._forcing)

    def execute_model(self, scheduler_output: Any) -> Any:
        """Admit this step's new requests, then run the model."""
        if self._stopper is not None:
            self._stopper.session.admit(scheduler_output)
        return super().execute_model(scheduler_output)

    def sample_tokens(self, grammar_output: Any) -> Any:
        """Advance the traces by this step's rows, force what was decided, then sample."""
        if self._stopper is not None and self._stopper.session.watching:
            with torch.inference_mode():
                self._before_sampling(self._stopper)
        return super().sample_tokens(grammar_output)

    def _before_sampling(self, installed: Installed) -> None:
        runner = self.model_runner
        state = runner.execute_model_state
        if state is None or state.hidden_states is None:
            return
        session, layers, depth = installed.session, installed.layers, installed.num_layers
        assert isinstance(session, Session)  # that of a diffusion model never reads here
        if self.use_v2_model_runner:
            self._forcing.forced = session.step(lambda: v2_rows(state, layers, depth))
            return
        forced = session.step(lambda: v1_rows(runner, state, layers, depth))
        if forced is not None:
            forced.write(state.logits)

    def stopper_decisions(self, limit: int = 1000) -> list[dict[str, Any]]:
        """RPC: decisions so far, newest last; empty on ranks that do not report."""
        return [] if self._stopper is None else self._stopper.session.decisions(limit)

    def stopper_decision(self, request_id: str) -> dict[str, Any] | None:
        """RPC: one request's decision by its own id or the response's; None on other ranks."""
        return None if self._stopper is None else self._stopper.session.decision(request_id)

    def stopper_stop_thinking(self, request_id: str) -> dict[str, Any] | None:
        """RPC: close a request's thinking with its next step; None where nothing is sampled.

        Every rank of one stage must begin to force at the same token, or they sample apart. They
        do: the executor sends remote calls and steps (`execute_model`, `sample_tokens`) through
        one queue to all its workers, and each works it off in order, one by one.
        """
        if self._stopper is None:
            return None
        found = self._stopper.session.stop_thinking(request_id)
        return {
            "outcome": found.outcome,
            "reason": found.reason,
            "request_ids": list(found.request_ids),
        }

    def stopper_counters(self) -> dict[str, dict[str, int]]:
        """RPC: counters by name and label."""
        return {} if self._stopper is None else self._stopper.session.counters()

    def stopper_collected(self) -> list[CollectedTrace]:
        """RPC: the cues kept since the last call, with hidden states as float32 bytes.

        Plain types: vLLM carries nothing else between processes without unsafe serialization.
        """
        if self._stopper is None:
            return []
        return [
            (
                outcome.request_id,
                [cue.position for cue in outcome.seen],
                [cue.label for cue in outcome.seen],
                [cue.score for cue in outcome.seen],
                b"".join(cue.hidden.tobytes() for cue in outcome.seen if cue.hidden is not None),
            )
            for outcome in self._stopper.session.drain_collected()
        ]

    def shutdown(self) -> None:
        """Write down what is open, then shut down."""
        if self._stopper is not None:
            self._stopper.session.close()
        super().shutdown()
