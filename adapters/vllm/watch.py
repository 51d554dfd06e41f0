"""Keeps the traces of all live requests: the interface, and the one on the host."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from adapters.vllm.host_tracker import HostTracker, ScoredCue, TrackedRequest
from adapters.vllm.rows import StepRows
from adapters.vllm.stop_thinking import Asked

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one trace; positions are absolute. `seen` is filled on the host only.

    `asked` tells that the stop was asked for and no score led to it: `stop_score` is NaN then.
    `top_score` is the highest finite score of the trace, NaN without one.
    """

    request_id: str
    cues: int
    non_finite: int
    stop_position: int | None
    stop_score: float
    asked: bool = False
    top_score: float = float("nan")
    failure: str | None = None
    seen: tuple[ScoredCue, ...] = ()


@dataclass(frozen=True, slots=True)
class Forced:
    """Logit rows to force: `tokens[i]` at `rows[i]`; with a mask where the device decides."""

    rows: torch.Tensor
    tokens: torch.Tensor
    mask: torch.Tensor | None = None

    def write(self, logits: torch.Tensor) -> None:
        """Raise one logit a row so far that it is sampled whatever the temperature.

        One element, not a full row of -inf: as vLLM's own thinking budget does it.
        """
        if self.mask is None:
            logits[self.rows, self.tokens] = 1e9
        else:
            present = logits[self.rows, self.tokens]
            raised = torch.where(self.mask, torch.full_like(present, 1e9), present)
            logits[self.rows, self.tokens] = raised


class Watch(Protocol):
    """Follows traces step by step."""

    def start(
        self, request_id: str, prompt_ids: list[int], threshold: np.float32, *, forces: bool
    ) -> None:
        """Begin to watch a request."""

    def knows(self, request_id: str, prompt_len: int) -> bool:
        """Return whether this request is under watch already (it was preempted and is back)."""

    def step(self, rows: StepRows) -> Forced | None:
        """Advance all traces by one engine step."""

    def finish(self, request_id: str) -> None:
        """Stop watching a request; its outcome will be among the next `outcomes`."""

    def outcomes(self, *, wait: bool) -> Iterator[Outcome]:
        """Yield the outcomes of finished requests that have arrived; `wait` for the others."""

    def running(self) -> Iterator[Outcome]:
        """Yield what is known so far of requests still running."""

    def outcome(self, request_id: str) -> Outcome | None:
        """Return what is known so far of one running request; None if it is not under watch."""

    def stop_thinking(self, request_id: str) -> Asked:
        """Close a request's thinking at its next step, in any mode, as a stop at a cue would.

        Called between steps. From then on the request is stopped at the first token that leaves it
        inside the thinking, unless the closing was forced already: so a rejected draft, or tokens
        lost with a preemption, cannot lose it. An answer other than "stopping" and
        "already_stopping" leaves no trace.
        """

    def __len__(self) -> int: ...


class HostWatch:
    """`Watch` over a `HostTracker`."""

    def __init__(self, tracker: HostTracker) -> None:
        self._tracker = tracker
        self._requests: dict[str, TrackedRequest] = {}
        self._finished: deque[Outcome] = deque()

    def __len__(self) -> int:
        return len(self._requests)

    def start(
        self, request_id: str, prompt_ids: list[int], threshold: np.float32, *, forces: bool
    ) -> None:
        """See `Watch`."""
        request = TrackedRequest(request_id, len(prompt_ids), threshold, forces)
        self._tracker.start(request, prompt_ids)
        self._requests[request_id] = request

    def knows(self, request_id: str, prompt_len: int) -> bool:
        """See `Watch`."""
        request = self._requests.get(request_id)
        return request is not None and request.prompt_len == prompt_len

    def step(self, rows: StepRows) -> Forced | None:
        """See `Watch`."""
        tracked = self._tracked(rows)
        if not tracked:
            return None
        forced = self._tracker.step(tracked, rows.hidden_row, self._failed)
        if not forced:
            return None
        pairs = torch.tensor(forced, dtype=torch.int64, device=rows.sources[0].device)
        return Forced(pairs[:, 0], pairs[:, 1])

    def _tracked(self, rows: StepRows) -> list[tuple[int, TrackedRequest, int, int]]:
        known, live = self._requests, rows.live
        if rows.counts is None:
            fed = zip(rows.request_ids, rows.tokens.tolist(), rows.positions.tolist(), strict=False)
            return [
                (row, request, token, position)
                for row, (request_id, token, position) in enumerate(fed)
                if (request := known.get(request_id)) is not None and (live is None or live[row])
            ]
        tokens, positions = rows.tokens.tolist(), rows.positions.tolist()
        tracked = []
        start = 0
        for number, (request_id, count) in enumerate(
            zip(rows.request_ids, rows.counts, strict=True)
        ):
            request = known.get(request_id)
            if request is not None and (live is None or live[number]):
                tracked += [
                    (row, request, tokens[row], positions[row])
                    for row in range(start, start + count)
                ]
            start += count
        return tracked

    @staticmethod
    def _failed(request: TrackedRequest, error: Exception) -> None:
        logger.error(
            "stopper: request %s goes on unwatched after a fault: %s",
            request.request_id,
            error,
            exc_info=error,
        )

    def finish(self, request_id: str) -> None:
        """See `Watch`."""
        request = self._requests.pop(request_id, None)
        if request is not None:
            self._finished.append(self._outcome(request))

    @staticmethod
    def _outcome(request: TrackedRequest) -> Outcome:
        stop = request.stop
        return Outcome(
            request_id=request.request_id,
            cues=len(request.cues),
            non_finite=sum(not np.isfinite(cue.score) for cue in request.cues),
            stop_position=stop.position if stop else None,
            stop_score=stop.score if stop else float("nan"),
            asked=request.asked,
            top_score=request.top_score,
            failure=request.failure,
            seen=tuple(request.cues),
        )

    def outcomes(self, *, wait: bool) -> Iterator[Outcome]:
        """See `Watch`."""
        while self._finished:
            yield self._finished.popleft()

    def running(self) -> Iterator[Outcome]:
        """See `Watch`."""
        yield from map(self._outcome, list(self._requests.values()))

    def outcome(self, request_id: str) -> Outcome | None:
        """See `Watch`."""
        request = self._requests.get(request_id)
        return None if request is None else self._outcome(request)

    def stop_thinking(self, request_id: str) -> Asked:
        """See `Watch`."""
        request = self._requests.get(request_id)
        return Asked("unknown") if request is None else self._tracker.stop_thinking(request)
