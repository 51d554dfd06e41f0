"""Remote stop decisions as queues: engines, their senders, sidecar replicas, Redis. Pure.

A discrete-event model of `adapters/vllm/remote/`: `benchmarks/engine_queue.py` adds the engines,
`benchmarks/scaling.py` runs it over many loads, `benchmarks/scaling_check.py` compares it with the
real thing. What it takes from the code:

- A sender has one batch under way, takes all that waits as the next one, drops what is past its
  deadline, waits no longer than the batch's last deadline, then connects anew, and keeps the
  project's own `Breaker`.
- A connection stays with the replica that it was opened to. A replica works on one body at a time;
  one that nobody waits for any more is decided all the same.
- With Redis a body goes there between two halves of its work. Redis takes one step at a time.

Not in the model: lost packets, replicas or a Redis that die, `redis_timeout_s`, TLS, prefill, and
what else a busy machine does to a process beyond the spread of `Costs.spread`.
"""

from __future__ import annotations

import math
import random
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import simpy

from adapters.vllm.remote.breaker import Breaker
from stopper.wire import MAX_BATCH

Draw = Callable[[np.random.Generator, int], np.ndarray]
"""A generator and a number n to n draws of mean 1, [n]."""

Process = Generator[simpy.Event, Any, None]


def fixed(_: np.random.Generator, n: int) -> np.ndarray:
    return np.ones(n)


def exponential(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.exponential(size=n)


def measured(samples: np.ndarray) -> Draw:
    """Draw from samples, scaled to mean 1."""
    scaled = np.asarray(samples, float) / np.mean(samples)
    return lambda rng, n: rng.choice(scaled, n)


@dataclass(frozen=True)
class Costs:
    """Seconds of work.

    Attributes
    ----------
    body_s, event_s
        Of a replica: for a body, and for each event in it.
    spread
        By which the work on a body varies.
    way_s, way_spread
        From an engine to a replica and back again, together.
    redis_s, redis_step_s
        To Redis and back; Redis's own work on an event. None: the replica's own memory.

    """

    body_s: float
    event_s: float
    way_s: float
    redis_s: float | None = None
    redis_step_s: float = 0.0
    spread: Draw = fixed
    way_spread: Draw = fixed


@dataclass(frozen=True)
class Fleet:
    """Replicas, and how connections come to them: in turn, or by chance as behind an L4 service."""

    replicas: int = 1
    deadline_s: float = 0.1
    placement: Literal["even", "chance"] = "even"
    capacity: int = 512


@dataclass
class Outcome:
    """What became of the cues that were met after the warm-up.

    Attributes
    ----------
    latencies
        Seconds from the cue to an answer, in time or not.
    causes
        Number of cues without a decision in time, by the engine's causes.
    bodies
        Events in each body that was sent.
    lags
        Tokens from the cue whose decision ended the thinking to its end.
    late_tokens, spared
        By request that had a passing cue and has ended: tokens after the first of them, and those
        that there would have been without any stop.

    """

    latencies: list[float] = field(default_factory=list)
    causes: Counter[str] = field(default_factory=Counter)
    bodies: list[int] = field(default_factory=list)
    lags: list[int] = field(default_factory=list)
    late_tokens: list[int] = field(default_factory=list)
    spared: list[int] = field(default_factory=list)

    @property
    def cues(self) -> int:
        return len(self.latencies) + self.causes.total() - self.causes["answered_late"]

    @property
    def late(self) -> float:
        """Share of the cues without a decision in time."""
        return self.causes.total() / max(1, self.cues)

    def quantile(self, q: float) -> float:
        """Seconds; infinite where so many cues got no answer at all."""
        lost = self.cues - len(self.latencies)
        every = np.sort(np.r_[self.latencies, np.full(lost, np.inf)])
        return float(every[min(len(every) - 1, math.ceil(q * len(every)) - 1)])


class Bench:
    """One simulation: the clock, the chance, and what is counted."""

    def __init__(self, costs: Costs, seed: int, warm_s: float = 0.0) -> None:
        self.env = simpy.Environment()
        self.costs = costs
        self.warm_s = warm_s
        self.outcome = Outcome()
        self.rng = np.random.default_rng(seed)
        self.chance = random.Random(seed)
        self.works = self._stream(costs.spread)
        self.ways = self._stream(costs.way_spread)
        self.redis = simpy.Resource(self.env, 1)

    def _stream(self, draw: Draw) -> Iterator[float]:
        while True:  # many at a time: one by one numpy is slow
            yield from draw(self.rng, 4096).tolist()

    def way(self) -> float:
        """Draw the seconds to a replica and back."""
        return self.costs.way_s * next(self.ways)


class Replica:
    """One process of the sidecar: bodies in the order in which they come."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.loop = simpy.Resource(bench.env, 1)

    def decide(self, events: int) -> Process:
        """Work on a body."""
        costs, env = self._bench.costs, self._bench.env
        work = (costs.body_s + events * costs.event_s) * next(self._bench.works)
        if costs.redis_s is None:
            yield from self._busy(work)
            return
        yield from self._busy(work / 2)
        yield env.timeout(costs.redis_s / 2)
        with self._bench.redis.request() as turn:
            yield turn
            yield env.timeout(events * costs.redis_step_s)
        yield env.timeout(costs.redis_s / 2)
        yield from self._busy(work / 2)

    def _busy(self, seconds: float) -> Process:
        with self.loop.request() as turn:
            yield turn
            yield self._bench.env.timeout(seconds)


@dataclass(slots=True)
class Question:
    """A cue: who asks, where, whether its score passes, when it was met, until when it counts."""

    slot: int
    request: int
    token: int
    passes: bool
    met: float
    until: float


class Sender:
    """What `adapters/vllm/remote/sender.py` does, on the simulation's clock."""

    def __init__(self, bench: Bench, fleet: Fleet, connect: Callable[[], Replica]) -> None:
        self._bench, self._fleet, self._connect = bench, fleet, connect
        self._breaker = Breaker(clock=lambda: bench.env.now, chance=bench.chance)
        self._waiting: deque[Question] = deque()
        self._woken = bench.env.event()
        self._replica: Replica | None = None
        self.answers: deque[Question] = deque()
        bench.env.process(self._run())

    def offer(self, question: Question) -> None:
        if not self._breaker.closed:
            self._lose([question], "remote_breaker_open")
        elif len(self._waiting) >= self._fleet.capacity:
            self._lose([question], "remote_queue_full")
        else:
            self._waiting.append(question)
            if not self._woken.triggered:
                self._woken.succeed()

    def _lose(self, questions: list[Question], cause: str) -> None:
        late = sum(question.met >= self._bench.warm_s for question in questions)
        if late:
            self._bench.outcome.causes[cause] += late

    def _run(self) -> Process:
        env = self._bench.env
        while True:
            if not self._waiting:
                self._woken = env.event()
                yield self._woken
            waiting = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
            self._lose([one for one in waiting if one.until <= env.now], "remote_late")
            batch = [one for one in waiting if one.until > env.now]
            if batch:
                yield from self._ask(batch)

    def _ask(self, batch: list[Question]) -> Process:
        env = self._bench.env
        until = max(one.until for one in batch)
        answer = env.process(self._exchange(len(batch), until))
        yield answer | env.timeout(until - env.now)
        if not answer.triggered:
            self._replica = None  # the connection is given up, the body stays with the replica
            self._lose(batch, "remote_late")
            if self._breaker.failed():
                self._lose(list(self._waiting), "remote_breaker_open")
                self._waiting.clear()
            return
        self._breaker.succeeded()
        outcome = self._bench.outcome
        if env.now >= self._bench.warm_s:
            outcome.bodies.append(len(batch))
        for one in batch:
            if one.met >= self._bench.warm_s:
                outcome.latencies.append(env.now - one.met)
            if env.now <= one.until:
                self.answers.append(one)
            else:
                self._lose([one], "answered_late")

    def _exchange(self, events: int, until: float) -> Process:
        env = self._bench.env
        replica = self._replica or self._connect()
        if self._replica is None:
            self._replica = replica
            yield env.timeout(self._bench.way())
            if env.now >= until:  # given up before anything was sent
                return
        way = self._bench.way()
        yield env.timeout(way / 2)
        yield from replica.decide(events)
        yield env.timeout(way / 2)
