"""Keeps the traces of all live requests, on the host or on the device, behind one interface."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from adapters.vllm.device_tracker import DeviceTracker
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


class DeviceWatch:
    """`Watch` over a `DeviceTracker`: slots by request id, summaries copied off the step."""

    def __init__(self, tracker: DeviceTracker, prompt_state: PromptState) -> None:
        self._tracker = tracker
        self._prompt_state = prompt_state
        self._slots: dict[str, int] = {}
        self._prompt_lens: dict[str, int] = {}
        self._free = list(range(tracker.trash))
        self._in_flight: deque[tuple[str, torch.Tensor, torch.cuda.Event | None]] = deque()
        self._last_ids: list[str] = []
        self._last_slots: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self._slots)

    def start(
        self, request_id: str, prompt_ids: list[int], threshold: np.float32, *, forces: bool
    ) -> None:
        """See `Watch`."""
        state = self._prompt_state(prompt_ids)
        slot = self._slots.get(request_id)
        if slot is None:
            if not self._free:
                before = self._tracker.trash
                self._tracker.grow()
                self._free = list(range(before, self._tracker.trash))
            slot = self._free.pop()
        self._slots[request_id] = slot
        self._prompt_lens[request_id] = len(prompt_ids)
        self._last_slots = None
        self._tracker.start(slot, len(prompt_ids), state, float(threshold), forces=forces)

    def knows(self, request_id: str, prompt_len: int) -> bool:
        """See `Watch`."""
        return self._prompt_lens.get(request_id) == prompt_len

    def _device_slots(self, rows: StepRows) -> torch.Tensor:
        # The batch rarely changes between two decode steps: keep the last translation.
        ids = list(rows.request_ids)
        if rows.live is None and self._last_slots is not None and ids == self._last_ids:
            return self._last_slots
        trash = self._tracker.trash
        slots = [self._slots.get(request_id, trash) for request_id in ids]
        if rows.live is not None:
            slots = [slot if live else trash for slot, live in zip(slots, rows.live, strict=True)]
        found = torch.tensor(slots, dtype=torch.int64)
        if self._tracker.device.type == "cuda":
            found = found.pin_memory()
        found = found.to(self._tracker.device, non_blocking=True)
        self._last_ids, self._last_slots = ids, found if rows.live is None else None
        return found

    def step(self, rows: StepRows) -> Forced | None:
        """See `Watch`."""
        if not self._slots:
            return None
        slots = self._device_slots(rows)
        tokens = torch.as_tensor(rows.tokens).long()
        positions = torch.as_tensor(rows.positions).long()
        if rows.counts is None:
            hidden = rows.hidden_rows(None)
            mask, force = self._tracker.step(slots, tokens, positions, hidden)
            every = torch.arange(len(tokens), device=tokens.device)
            return Forced(every, force, mask)
        # Drafts of one request depend on each other: its rows go in turn, requests together.
        starts = np.concatenate(([0], np.cumsum(rows.counts)[:-1]))
        parts = []
        for draft in range(max(rows.counts)):
            batch = [n for n, count in enumerate(rows.counts) if count > draft]
            at = torch.as_tensor(starts[batch] + draft, device=tokens.device)
            who = slots[torch.as_tensor(batch, device=tokens.device)]
            hidden = rows.hidden_rows(at)
            mask, force = self._tracker.step(
                who, tokens[at], positions[at], hidden, certain=draft == 0
            )
            parts.append((at, force, mask))
        row, force, mask = (torch.cat(part) for part in zip(*parts, strict=True))
        return Forced(row, force, mask)

    def finish(self, request_id: str) -> None:
        """See `Watch`."""
        slot = self._slots.pop(request_id, None)
        if slot is None:
            return
        del self._prompt_lens[request_id]
        self._last_slots = None
        packed = self._tracker.pack(slot)
        event = None
        if packed.is_cuda:
            host = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=True)
            host.copy_(packed, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            packed = host
        self._in_flight.append((request_id, packed, event))
        self._tracker.release(slot)
        self._free.append(slot)

    def outcomes(self, *, wait: bool) -> Iterator[Outcome]:
        """See `Watch`."""
        while self._in_flight:
            request_id, packed, event = self._in_flight[0]
            if event is not None:
                if wait:
                    event.synchronize()
                elif not event.query():
                    return
            self._in_flight.popleft()
            yield self._outcome(request_id, packed)

    def _outcome(self, request_id: str, packed: torch.Tensor) -> Outcome:
        found = self._tracker.unpack(packed)
        return Outcome(
            request_id=request_id,
            cues=found.cues,
            non_finite=found.non_finite,
            stop_position=found.stop_position,
            stop_score=found.stop_score,
            asked=found.asked,
            top_score=found.top_score,
        )

    def running(self) -> Iterator[Outcome]:
        """See `Watch`."""
        for request_id, slot in list(self._slots.items()):
            yield self._outcome(request_id, self._tracker.pack(slot).cpu())

    def outcome(self, request_id: str) -> Outcome | None:
        """See `Watch`."""
        slot = self._slots.get(request_id)
        return None if slot is None else self._outcome(request_id, self._tracker.pack(slot).cpu())

    def stop_thinking(self, request_id: str) -> Asked:
        """See `Watch`."""
        slot = self._slots.get(request_id)
        return Asked("unknown") if slot is None else self._tracker.stop_thinking(slot)


class PromptState(Protocol):
    """`CueAutomaton.prompt_state`."""

    def __call__(self, prompt_ids: list[int], /) -> int:
        """Return the automaton's state after a prompt."""
