"""Engines that meet cues, in front of the queues of `benchmarks/decision_queue.py`. Pure.

An engine meets cues at the steps of its running requests, takes answers between two steps, and ends
the thinking of a request for which one says so. What a late decision costs is counted in tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from decision_queue import Bench, Costs, Fleet, Outcome, Process, Question, Replica, Sender


@dataclass(frozen=True)
class Load:
    """What engines do; lengths of thinking are exponential, means in tokens.

    Attributes
    ----------
    running
        Requests that run at a time in each engine; one that ends is followed by the next.
    step_s
        Seconds of an engine's step, which varies by a tenth; one token of each request.
    tokens_per_cue
        Mean distance of cues.
    settles, more
        Until the answer is settled, and what the model would think on from there.
    passing
        Share of the cues after that whose score is above the threshold.

    """

    engines: int
    running: int = 64
    step_s: float = 0.02
    tokens_per_cue: float = 50.0
    settles: float = 800.0
    more: float = 1200.0
    passing: float = 0.7

    @property
    def cues_per_s(self) -> float:
        return self.engines * self.running / self.step_s / self.tokens_per_cue


class Engine:
    """Steps of running requests, and what their thinking costs."""

    def __init__(self, bench: Bench, load: Load, fleet: Fleet, sender: Sender) -> None:
        self._bench, self._load, self._fleet, self._sender = bench, load, fleet, sender
        n = load.running
        self._requests = np.arange(n)
        self._newest = n
        self._tokens, self._first = np.zeros(n, int), np.full(n, -1)
        self._settled, self._ends = np.zeros(n, int), np.zeros(n, int)
        self._due = np.zeros(n, int)  # token of the next cue, or of the end
        # Exponential lengths have no memory: at any time those that run have as much before them.
        for slot in range(n):
            self._begin(slot)
        bench.env.process(self._run())

    def _run(self) -> Process:
        env, rng, load = self._bench.env, self._bench.rng, self._load
        yield env.timeout(load.step_s * rng.random())
        while True:
            self._tokens += 1
            while self._sender.answers:
                self._obey(self._sender.answers.popleft())
            for slot in (self._tokens >= self._due).nonzero()[0].tolist():
                if self._tokens[slot] >= self._ends[slot]:
                    self._end(slot)
                else:
                    self._cue(slot)
            yield env.timeout(load.step_s * (0.95 + 0.1 * rng.random()))

    def _cue(self, slot: int) -> None:
        token, now = int(self._tokens[slot]), self._bench.env.now
        passes = token >= self._settled[slot] and self._bench.rng.random() < self._load.passing
        if passes and self._first[slot] < 0:
            self._first[slot] = token
        self._next_cue(slot)
        until = now + self._fleet.deadline_s
        request = int(self._requests[slot])
        self._sender.offer(Question(slot, request, token, bool(passes), now, until))

    def _obey(self, one: Question) -> None:
        if one.passes and self._requests[one.slot] == one.request:
            if self._bench.env.now >= self._bench.warm_s:
                self._bench.outcome.lags.append(int(self._tokens[one.slot]) - one.token)
            self._end(one.slot)

    def _end(self, slot: int) -> None:
        """End a request's thinking and let the next one begin."""
        first = int(self._first[slot])
        if first >= 0 and self._bench.env.now >= self._bench.warm_s:
            self._bench.outcome.late_tokens.append(int(self._tokens[slot]) - first)
            self._bench.outcome.spared.append(int(self._ends[slot]) - first)
        self._requests[slot], self._newest = self._newest, self._newest + 1
        self._begin(slot)

    def _begin(self, slot: int) -> None:
        rng, load = self._bench.rng, self._load
        self._tokens[slot], self._first[slot] = 0, -1
        self._settled[slot] = math.ceil(rng.exponential(load.settles))
        self._ends[slot] = self._settled[slot] + math.ceil(rng.exponential(load.more))
        self._next_cue(slot)

    def _next_cue(self, slot: int) -> None:
        gap = self._bench.rng.geometric(1 / self._load.tokens_per_cue)
        self._due[slot] = min(self._tokens[slot] + gap, self._ends[slot])


def simulate(
    load: Load, costs: Costs, fleet: Fleet, *, seconds: float, warm_s: float = 1.0, seed: int = 0
) -> Outcome:
    """Run engines against a fleet; `seconds` after `warm_s` are counted."""
    bench = Bench(costs, seed, warm_s)
    replicas = [Replica(bench) for _ in range(fleet.replicas)]
    turn = iter(range(10**9))

    def connect() -> Replica:
        even = fleet.placement == "even"
        return replicas[next(turn) % len(replicas)] if even else bench.chance.choice(replicas)

    for _ in range(load.engines):
        Engine(bench, load, fleet, Sender(bench, fleet, connect))
    bench.env.run(warm_s + seconds)
    return bench.outcome
