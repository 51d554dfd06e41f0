"""One engine worker's stopper on a diffusion model: admits requests, follows their canvases."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch

from adapters.vllm.diffusion.batch import Watched
from adapters.vllm.diffusion.decision import Decision
from adapters.vllm.diffusion.levels import Levels, RefusedError
from adapters.vllm.diffusion.trace import Mode, Trace
from adapters.vllm.journal import Journal
from adapters.vllm.request_ids import RequestIds
from adapters.vllm.request_options import RequestOptions
from adapters.vllm.stop_thinking import Asked
from stopper.errors import InputError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Logged:
    """One step's decisions on their way to the host, in pinned memory where there is a device."""

    watched: list[Watched]
    packed: torch.Tensor
    event: torch.cuda.Event | None


class DiffusionSession:
    """The plugin's state in one worker of a diffusion model.

    Parameters
    ----------
    levels
        What a request's scores must exceed.
    max_steps
        The server's cap on denoising steps.
    artifact
        Short name of the artifact for the report.
    journal
        None on ranks that decide alike but do not report.

    """

    #: Nothing is read between the forward pass and the sampler: the sampler itself is wrapped.
    watching = False

    def __init__(
        self, levels: Levels, *, max_steps: int, artifact: str, journal: Journal | None
    ) -> None:
        self._levels = levels
        self._max_steps = max_steps
        self._artifact = artifact
        self._journal = journal
        self._traces: dict[str, Trace] = {}
        self._log: deque[_Logged] = deque()
        self._logged = self._read = 0  # steps logged so far, and those read back
        self._left: deque[tuple[int, Trace]] = deque()  # finished; steps may be on their way
        self._ids = RequestIds()

    def admit(self, scheduler_output: Any) -> None:
        """Take leave of finished requests and take in new ones; never raises.

        In this order, as the runners do: an id may be finished and given anew in one step.
        """
        for request_id in scheduler_output.finished_req_ids:
            self.survive("finish", partial(self._leave, request_id))
        for new in scheduler_output.scheduled_new_reqs:
            try:
                self._admit(new)
            except Exception:  # fail open
                self._fault("admit")
                length = len(new.prompt_token_ids or ())
                self._traces[new.req_id] = Trace(new.req_id, "failed_open", length, reason="admit")
            self._ids.add(new.req_id)
        self.survive("report", self._report)

    def survive(self, cause: str, call: Callable[[], Result]) -> Result | None:
        """Return what `call` returns; None, and a count, where it raises."""
        try:
            return call()
        except Exception:
            self._fault(cause)
            return None

    def _fault(self, cause: str) -> None:
        logger.exception("stopper: fault in %s; nothing is halted by it", cause)
        if self._journal is not None:
            self._journal.count_fault(cause)

    def _admit(self, new: Any) -> None:
        length = len(new.prompt_token_ids or ())
        before = self._traces.get(new.req_id)
        if before is not None and before.prompt_tokens == length:
            return  # preempted and back
        self._leave(new.req_id)
        self._traces[new.req_id] = self._judge(new, length)

    def _judge(self, new: Any, length: int) -> Trace:
        params = new.sampling_params
        try:
            options = RequestOptions.from_extra_args(getattr(params, "extra_args", None))
        except InputError as error:  # the front end refuses these
            logger.error("stopper: request %s: %s", new.req_id, error)
            return Trace(new.req_id, "not_applied", length, reason="bad_options")
        if options.mode == "off":
            return Trace(new.req_id, "off", length, reason="asked_off")
        try:
            level = self._levels.of(options, params, new.lora_request, self._max_steps)
        except RefusedError as refused:
            return Trace(
                new.req_id, "not_applied", length, alpha=refused.alpha, reason=refused.reason
            )
        mode: Mode = "audit" if options.mode == "audit" else "stop"
        watched = Watched(new.req_id, level.steps, level.value, stops=mode == "stop")
        return Trace(
            new.req_id, mode, length, alpha=level.alpha, level=float(level.value), watched=watched
        )

    @property
    def following(self) -> bool:
        """Whether any request is under watch: if not, a step costs nothing."""
        return any(trace.watched is not None for trace in self._traces.values())

    def watched(self, request_id: str) -> Watched | None:
        """Return what a request is judged by; None if it is not under watch."""
        trace = self._traces.get(request_id)
        return None if trace is None else trace.watched

    def log(self, watched: list[Watched], decision: Decision) -> None:
        """Send one step's decisions to the host; nothing waits for them."""
        if self._journal is None:
            return
        packed, event = decision.packed(), None
        if packed.is_cuda:
            host = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=True)
            host.copy_(packed, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            packed = host
        self._log.append(_Logged(watched, packed, event))
        self._logged += 1

    def _arrive(self, wait: bool) -> None:
        """Add the steps that have arrived to their traces."""
        while self._log:
            event = self._log[0].event
            if event is not None:
                if wait:
                    event.synchronize()
                elif not event.query():
                    return
            logged = self._log.popleft()
            self._read += 1
            columns = np.asarray(logged.packed).T.tolist()
            for watched, (step, committing, score, halts, broken) in zip(
                logged.watched, columns, strict=True
            ):
                trace = self._trace_of(watched)
                if trace is not None:
                    trace.take(int(step), bool(committing), score, bool(halts), bool(broken))

    def _trace_of(self, watched: Watched) -> Trace | None:
        trace = self._traces.get(watched.request_id)
        if trace is not None and trace.watched is watched:
            return trace
        # It has finished since; the same id may have been given anew.
        return next((left for _, left in self._left if left.watched is watched), None)

    def _report(self, wait: bool = False) -> None:
        self._arrive(wait)
        while self._left and self._left[0][0] <= self._read:
            trace = self._left.popleft()[1]
            if self._journal is not None:
                self._journal.add(self._record(trace, running=False))
                if trace.broken:
                    self._journal.count_fault("score_not_finite", trace.broken)

    def _leave(self, request_id: str) -> None:
        trace = self._traces.pop(request_id, None)
        self._ids.discard(request_id)
        if trace is not None:
            self._left.append((self._logged, trace))

    def _record(self, trace: Trace, *, running: bool) -> dict[str, Any]:
        return trace.record(self._artifact, promised=self._levels.promised, running=running)

    def decisions(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest finished records and what is known of running requests.

        A worker hears of a finished request only with the next scheduled step.
        """
        self.survive("report", lambda: self._report(True))
        if self._journal is None:
            return []
        running = [self._record(trace, running=True) for trace in self._traces.values()]
        return self._journal.recent(limit) + running

    def decision(self, request_id: str) -> dict[str, Any] | None:
        """Return one request's record, by the engine's id or the response's; None if unknown."""
        self.survive("report", lambda: self._report(True))
        if self._journal is None:
            return None
        live, finished = self._ids.first(request_id), self._journal.find(request_id)
        if live is None or (finished is not None and finished[0] < live[0]):
            return None if finished is None else finished[1]
        trace = self._traces.get(live[1])
        return None if trace is None else self._record(trace, running=True)

    def stop_thinking(self, request_id: str) -> Asked:
        """Decline: a canvas has no thinking that could be closed."""
        ids = tuple(self._ids.all(request_id))
        return Asked("not_watched", "diffusion", ids) if ids else Asked("unknown")

    def counters(self) -> dict[str, dict[str, int]]:
        """Return all counters."""
        return {} if self._journal is None else self._journal.counters()

    def drain_collected(self) -> list[Any]:
        """Return nothing: cues are not collected here."""
        return []

    def close(self) -> None:
        """Write down what is still open and close the file; never raises."""
        for request_id in list(self._traces):
            self.survive("close", partial(self._leave, request_id))
        self.survive("report", lambda: self._report(True))
        if self._journal is not None:
            self.survive("close", self._journal.close)
