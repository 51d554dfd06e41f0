"""`Watch` over a `RemoteTracker`."""

from __future__ import annotations

import itertools
import math
import uuid
from collections.abc import Iterator

import numpy as np

from adapters.vllm.host_tracker import TrackedRequest
from adapters.vllm.remote.request import RemoteOutcome, RemoteRequest, remote_fields, score_of
from adapters.vllm.remote.tracker import RemoteTracker
from adapters.vllm.rows import StepRows
from adapters.vllm.watch import Forced, HostWatch, Outcome
from stopper.wire import MAX_REQUEST_ID


class RemoteWatch(HostWatch):
    """A `HostWatch` that first takes the decisions which have arrived, at every step.

    A request is judged by the probe here until `ask_for` leaves it to the sidecar.
    """

    def __init__(self, tracker: RemoteTracker) -> None:
        super().__init__(tracker)
        self._remote = tracker
        self._engine = uuid.uuid4().hex[:12]
        self._serial = itertools.count()

    def start(
        self, request_id: str, prompt_ids: list[int], threshold: np.float32, *, forces: bool
    ) -> None:
        """See `Watch`."""
        request = RemoteRequest(request_id, len(prompt_ids), threshold, forces)
        self._tracker.start(request, prompt_ids)
        self._requests[request_id] = request

    def ask_for(self, request_id: str, alpha: float) -> None:
        """Let the sidecar decide on a request that has just been started; once."""
        request = self._requests[request_id]
        assert isinstance(request, RemoteRequest)
        if request.told is None:
            # Names of requests come back, also within one start of the engine.
            trace = f"{self._engine}-{next(self._serial)}-{request_id}"
            sendable = trace.encode("utf-8", "replace").decode()
            self._remote.ask_for(request, sendable[:MAX_REQUEST_ID], alpha)

    def step(self, rows: StepRows) -> Forced | None:
        """See `Watch`."""
        self._remote.drain()
        self._remote.dtype = rows.sources[0].dtype
        return super().step(rows)

    def finish(self, request_id: str) -> None:
        """See `Watch`."""
        self._remote.drain()
        request = self._requests.get(request_id)
        if isinstance(request, RemoteRequest):
            self._remote.leave(request)
        super().finish(request_id)

    def running(self) -> Iterator[Outcome]:
        """See `Watch`."""
        self._remote.drain()
        yield from super().running()

    def outcome(self, request_id: str) -> Outcome | None:
        """See `Watch`."""
        self._remote.drain()
        return super().outcome(request_id)

    def counters(self) -> dict[str, dict[str, int]]:
        """Return `remote`, `fail_open` and `not_applied`, by cause, of events."""
        self._remote.drain()
        return {
            "remote": dict(self._remote.asked),
            "fail_open": dict(self._remote.fail_open),
            "not_applied": dict(self._remote.not_applied),
        }

    @staticmethod
    def _outcome(request: TrackedRequest) -> Outcome:
        found = HostWatch._outcome(request)
        assert isinstance(request, RemoteRequest)
        told = request.told
        if told is None:
            return found
        decided = told.decided
        at = found.stop_position
        if decided is not None:
            at = decided.position + request.prompt_len - 1
        return RemoteOutcome(
            request_id=found.request_id,
            cues=found.cues,
            non_finite=told.not_finite,
            stop_position=at,
            stop_score=math.nan if decided is None else score_of(decided),
            asked=found.asked and decided is None,
            top_score=found.top_score,
            failure=found.failure,
            seen=found.seen,
            remote=remote_fields(request, told),
        )
