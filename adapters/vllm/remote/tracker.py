"""Finds the cues as the local tracker does, and asks the sidecar instead of the probe."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from adapters.vllm.host_tracker import RING, HostTracker, ScoredCue, TrackedRequest, _Known
from adapters.vllm.remote.answers import Answer
from adapters.vllm.remote.request import RemoteRequest, Told, failed_reason, score_of
from adapters.vllm.remote.sender import Question, Sender
from adapters.vllm.stop_thinking import Asked
from probes.network import Probe
from stopper.cues import CueAutomaton
from stopper.wire import Decision, DecisionEvent, HiddenState

_MASK = RING - 1


class RemoteTracker(HostTracker):
    """A `HostTracker` whose cues go to a sender and whose stops come from its answers.

    A stop is carried out as "stop thinking now" is: at the first token after it that is still
    inside the thinking. Requests without `told` are judged here, by the probe.

    Parameters
    ----------
    sender
        Asks the sidecar.
    model
        As the sidecar names it.
    deadline_s
        Seconds from a cue, until which an answer counts.

    Attributes
    ----------
    asked
        Counts of `events` that were taken by the sender and `answered` ones.
    fail_open, not_applied
        Events without a decision, and stops that came too late, by cause.
    dtype
        Of the engine's hidden states, in which they are sent; set before each step.

    """

    def __init__(
        self,
        automaton: CueAutomaton,
        probe: Probe,
        *,
        rise_weight: float,
        force_ids: tuple[int, ...],
        sender: Sender,
        model: str,
        deadline_s: float,
    ) -> None:
        super().__init__(
            automaton, probe, rise_weight=rise_weight, force_ids=force_ids, keep_hidden=False
        )
        self._sender = sender
        self._model = model
        self._deadline = deadline_s
        self._traces: dict[str, RemoteRequest] = {}
        self._closing: list[RemoteRequest] = []
        self.asked: Counter[str] = Counter()
        self.fail_open: Counter[str] = Counter()
        self.not_applied: Counter[str] = Counter()
        self.dtype = torch.float32

    def ask_for(self, request: RemoteRequest, trace: str, alpha: float) -> None:
        """Leave the decisions on a request to the sidecar."""
        request.told = Told(trace, alpha)
        self._traces[trace] = request

    def leave(self, request: RemoteRequest) -> None:
        """Forget a request; answers that still come are counted and dropped."""
        told = request.told
        if told is None:
            return
        self._traces.pop(told.trace, None)
        if told.decided is not None and request.forces and request.stop is None:
            told.decided, told.missed = None, "remote_request_over"

    def step(
        self,
        rows: Iterable[tuple[int, TrackedRequest, int, int]],
        hidden: Callable[[int], npt.NDArray[np.float32]],
        on_failure: Callable[[TrackedRequest, Exception], None],
    ) -> list[tuple[int, int]]:
        """See `HostTracker`."""
        rows = list(rows)
        for _, request, token, position in rows:
            assert isinstance(request, RemoteRequest)
            if position > request.fed_to:
                request.fed_to = position
            elif request.told is not None and position <= request.told.asked_to:
                self._again(request, request.told, token, position)
            request.fed[position & _MASK] = token
        forced = super().step(rows, hidden, on_failure)
        if self._closing:
            self._closing = [request for request in self._closing if not self._closed(request)]
        return forced

    def _again(self, request: RemoteRequest, told: Told, token: int, position: int) -> None:
        """Take a position that was run before, up to the newest cue that was asked about.

        Tokens in flight at a preemption are sampled again, and may come out differently: then the
        sidecar was told another trace.
        """
        if told.missed == "remote_trace_changed":
            return
        decided = told.decided if request.forces else None
        cue = None if decided is None else decided.position + request.prompt_len - 1
        if request.fed[position & _MASK] == token:
            if cue is not None:  # not before the cue that was decided on
                request.ends = request.wished or position >= cue
        elif cue is None or position <= cue:
            request.ends = request.wished
            request.fed_to = position
            told.decided, told.missed = None, "remote_trace_changed"
            self.fail_open[told.missed] += 1

    def stop_thinking(self, request: TrackedRequest) -> Asked:
        """See `HostTracker`; for users."""
        found = super().stop_thinking(request)
        if isinstance(request, RemoteRequest):
            request.wished = request.wished or found.stays
        return found

    def _closed(self, request: RemoteRequest) -> bool:
        """Return whether a stop need not be followed any more: carried out, or too late."""
        if not request.ends or request.stop is not None:
            return True
        if self._inside[request.states[request.last & _MASK]]:
            return False
        self._too_late(request)  # its last token, sampled before the answer, was the end
        return True

    def _too_late(self, request: RemoteRequest) -> None:
        assert request.told is not None
        request.ends = request.wished
        request.told.decided, request.told.missed = None, "remote_thinking_over"

    def _look(
        self,
        request: TrackedRequest,
        known: _Known,
        position: int,
        label: int,
        hidden: npt.NDArray[np.float32],
    ) -> _Known:
        assert isinstance(request, RemoteRequest)
        told = request.told
        if told is None:
            return super()._look(request, known, position, label, hidden)
        request.cues.append(ScoredCue(position, label, math.nan, math.nan))
        if told.missed == "remote_trace_changed" or position <= told.asked_to:
            return known  # the second: preempted, and run again
        told.asked_to = position
        told.events += 1
        cause: str | None = "remote_breaker_open"
        if self._sender.open:  # before anything is packed
            event = DecisionEvent(
                request_id=told.trace,
                model=self._model,
                position=position - request.prompt_len + 1,
                hidden_state=pack(hidden, self.dtype),
                alpha=told.alpha,
                audit=not request.forces,
            )
            cause = self._sender.offer(Question(event, time.monotonic() + self._deadline))
        if cause is None:
            self.asked["events"] += 1
        else:
            told.lost[cause] += 1
            self.fail_open[cause] += 1
        return known

    def drain(self) -> None:
        """Take the answers that have arrived; between two steps."""
        answers = self._sender.answers
        while answers:
            self._take(answers.popleft())

    def _take(self, answer: Answer) -> None:
        decision = answer.decision
        if answer.cause is not None:
            self.fail_open[answer.cause] += 1
        elif decision is not None:
            self.asked["answered"] += 1
            if cause := failed_reason(decision):
                self.fail_open[cause] += 1
        request = self._traces.get(answer.request_id)
        if request is None:
            if answer.cause is None and decision is not None and decision.stop:
                self.not_applied["remote_request_over"] += 1
            return
        told = request.told
        assert told is not None
        if answer.cause is not None:
            told.lost[answer.cause] += 1
            if answer.cause == "remote_late" and decision is not None and decision.stop:
                told.missed = told.missed or answer.cause
        elif decision is not None and told.missed != "remote_trace_changed":
            told.answered += 1
            told.last = decision
            told.not_finite += decision.reason == "score_not_finite"
            self._note(request, decision)
            self._obey(request, told, decision)

    @staticmethod
    def _note(request: RemoteRequest, decision: Decision) -> None:
        """Write the score beside the cue."""
        at = decision.position + request.prompt_len - 1
        for number in range(len(request.cues) - 1, -1, -1):
            if request.cues[number].position == at:
                score = score_of(decision)
                request.cues[number] = replace(request.cues[number], score=score)
                return

    def _obey(self, request: RemoteRequest, told: Told, decision: Decision) -> None:
        if told.decided is not None or request.failure is not None:
            return
        if not request.forces:
            if decision.marked:
                told.decided = decision
            return
        if not decision.stop:
            return
        outcome = super().stop_thinking(request).outcome
        if outcome == "stopping":
            told.decided, told.missed = decision, None
            self._closing.append(request)
        elif outcome == "not_thinking":
            told.missed = "remote_thinking_over"


_NAMES: dict[torch.dtype, Literal["float16", "bfloat16", "float32"]] = {
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float32: "float32",
}


def pack(hidden: npt.NDArray[np.float32], dtype: torch.dtype) -> HiddenState:
    """Return a hidden state in the engine's own dtype; nothing is lost, for there it came from.

    Parameters
    ----------
    hidden
        [d], widened from `dtype`.
    dtype
        Any other than the three that travel is sent as float32.

    """
    name = _NAMES.get(dtype, "float32")
    if name == "bfloat16":  # the upper half of a float32; numpy has no such type
        data = (hidden.view(np.uint32) >> 16).astype("<u2").tobytes()
    else:
        data = hidden.astype("<f2" if name == "float16" else "<f4", copy=False).tobytes()
    return HiddenState(data, name, hidden.shape)
