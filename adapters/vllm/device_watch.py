"""Keeps the traces of all live requests on the device, and copies their summaries off the step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch

from adapters.vllm.device_tracker import DeviceTracker
from adapters.vllm.rows import StepRows
from adapters.vllm.stop_thinking import Asked
from adapters.vllm.watch import Forced, Outcome


class PromptState(Protocol):
    """`CueAutomaton.prompt_state`."""

    def __call__(self, prompt_ids: list[int], /) -> int:
        """Return the automaton's state after a prompt."""


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
