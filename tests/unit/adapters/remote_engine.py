"""The simulated engine in remote mode, beside a sidecar that decides by the real probe and rule."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from engine_simulator import FORCE, Engine, Trace, choices, step_rows

from adapters.vllm.remote.answers import Answer
from adapters.vllm.remote.request import RemoteOutcome
from adapters.vllm.remote.sender import Question, Sender
from adapters.vllm.remote.tracker import RemoteTracker
from adapters.vllm.remote.watch import RemoteWatch
from adapters.vllm.watch import Watch
from probes.network import Probe
from probes.shaping import weight_of
from stopper.cues import CueAutomaton
from stopper.wire import Decision, DecisionEvent

ALPHA = 0.25


def state_of(event: DecisionEvent) -> np.ndarray:
    """Widen an event's hidden state to float32 [d]."""
    state = event.hidden_state
    assert state is not None
    if state.dtype == "bfloat16":
        half = np.frombuffer(state.data, "<u2").astype(np.uint32)
        return (half << 16).view(np.float32).reshape(state.shape)
    kind = {"float16": "<f2", "float32": "<f4"}[state.dtype]
    return np.frombuffer(state.data, kind).astype(np.float32).reshape(state.shape)


class InProcess(Sender):
    """Takes events and answers them some steps later, or never: no thread, no socket.

    `thresholds` are by trace, as a test wants them; `delay` is in steps, None loses the event.
    """

    def __init__(self, judge: Probe, delays: random.Random | None = None) -> None:
        self.judge = judge
        self.random = delays
        self.thresholds: dict[str, float] = {}
        self.floors: dict[str, np.float32] = {}
        self.seen: list[DecisionEvent] = []
        self.now = 0
        self.under_way: list[tuple[int, Answer]] = []
        self.answers: deque[Answer] = deque()
        self.cause: str | None = None

    @property
    def open(self) -> bool:
        return self.cause != "remote_breaker_open"

    def offer(self, question: Question) -> str | None:
        if self.cause is not None:
            return self.cause
        event = question.event
        self.seen.append(event)
        answer = Answer(event.request_id, event.position, self.decide(event))
        delay = self.random.choice([0, 0, 1, 3, None]) if self.random else 0
        if delay is None:
            answer = question.lost("remote_late")
        self.under_way.append((self.now + (delay or 0), answer))
        return None

    def decide(self, event: DecisionEvent) -> Decision:
        (level,) = self.judge.score(state_of(event)[None, :])
        floor = np.minimum(self.floors.get(event.request_id, np.float32(np.inf)), level)
        score = np.float32(level + weight_of(self.judge.spec) * (level - floor))
        finite = bool(np.isfinite(score))
        if finite:
            self.floors[event.request_id] = floor
        threshold = self.thresholds[event.request_id.split("-", 2)[2]]
        passes = finite and score > np.float32(threshold)
        return Decision(
            request_id=event.request_id,
            position=event.position,
            stop=passes and not event.audit,
            reason="score_not_finite"
            if not finite
            else "audit"
            if passes and event.audit
            else "score_above_threshold"
            if passes
            else "score_below_threshold",
            score=float(score) if finite else None,
            threshold=threshold,
            alpha=event.alpha,
            artifact="abc",
            marked=passes and bool(event.audit),
        )

    def step(self) -> None:
        """Let what is due arrive; answers of one trace stay in their order."""
        self.now += 1
        while self.under_way and self.under_way[0][0] < self.now:
            self.answers.append(self.under_way.pop(0)[1])

    def close(self, patience_s: float = 1.0) -> None:
        """Nothing to close."""


def remote_watch(cues: CueAutomaton, judge: Probe, sender: Sender) -> RemoteWatch:
    tracker = RemoteTracker(
        cues,
        judge,
        rise_weight=weight_of(judge.spec),
        force_ids=FORCE,
        sender=sender,
        model="model",
        deadline_s=1.0,
    )
    return RemoteWatch(tracker)


@dataclass
class RemoteEngine(Engine):
    """Runs traces under a remote watch alone."""

    wild: bool = False
    forced_at: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.sender = InProcess(self.judge, random.Random(self.seed + 1) if self.wild else None)
        self.watch = remote_watch(self.cues, self.judge, self.sender)

    @property
    def watches(self) -> tuple[Watch, ...]:  # type: ignore[override]
        return (self.watch,)

    def run(self, traces: Any) -> dict[str, RemoteOutcome]:  # type: ignore[override]
        self.host = self.device = self.watch  # type: ignore[assignment]
        for trace in traces:
            self.sender.thresholds[trace.name] = trace.threshold
        return super().run(traces)  # type: ignore[return-value]

    def _start(self, trace: Trace) -> None:
        super()._start(trace)
        if trace.watched:
            self.watch.ask_for(trace.name, ALPHA)

    def _finish(self, name: str) -> RemoteOutcome:  # type: ignore[override]
        self.watch.finish(name)
        (found,) = self.watch.outcomes(wait=True)
        assert isinstance(found, RemoteOutcome)
        return found

    def _watch(
        self, batch: list[Trace], fed: list[list[tuple[int, int]]], live: list[bool]
    ) -> dict[int, int]:
        self.sender.step()
        rows = step_rows(batch, fed, live, self.random)
        forced = choices(self.watch.step(rows), len(rows.tokens))
        for row in forced:
            self.forced_at.setdefault(batch[row].name, []).append(fed[row][0][0])
        return forced

    def events(self, name: str) -> Iterator[DecisionEvent]:
        return (seen for seen in self.sender.seen if seen.request_id.endswith(f"-{name}"))


def narrow(hidden: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Round float32 to a dtype and widen it again."""
    return torch.from_numpy(hidden).to(dtype).float().numpy()
