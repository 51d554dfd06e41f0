"""The simulation of benchmarks/scaling.py against the real sender and the real sidecar.

Run: ``python benchmarks/scaling_check.py [--seconds 8] [--probe mlp] [--json FILE]``

`stopper serve` runs as a process of its own, once with its own memory and once with Redis. First it
is measured by itself: its CPU seconds for bodies of 1 to 32 events (the costs that
``benchmarks/scaling.py --costs FILE`` takes), the bodies that it answers in a second when eight
connections keep it busy, and round trips when there is nothing else to do. Then the plugin's real
`Sender`, one for each of four engines, asks it about eight cues in a step, and the simulation is
given the same load. Steps are as long as keeps the sidecar busy for 20, 40 and 60 % of the time.
Printed are p50 and p99 of both from cue to answer (of the real ones the median of three pieces, so
that one hiccup of the machine does not count), and their ratio.

The client, the sidecar and Redis share the machine, so that the work on a body is taken from the
second measurement, by wall-clock, what else is in a round trip from the third. The p50 should agree
within a factor of 2 and the p99 within 3; the exit code is 1 where one does not. On a machine with
other work they may not.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import logging
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from decision_queue import Costs, Fleet, Outcome, measured
from decisions import ROUTE, WIDTH, Body, Client, artifact
from engine_queue import Load, simulate
from real_sidecar import Running, redis_server, sidecar
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from adapters.vllm.remote.answers import Answer
from adapters.vllm.remote.connection import Connection
from adapters.vllm.remote.sender import Question, Sender
from stopper.wire import DecisionEvent, HiddenState

SIZES = (1, 4, 16, 32)
FACTORS = {"p50": 2.0, "p99": 3.0}
DEADLINE_S = 1.0
BUSY = (0.2, 0.4, 0.6)
"""Shares of what the sidecar can do, by the measurement; engines' steps are made as long."""
ENGINES, CUES = 4, 8
"""Engines, and cues in a step of one."""
ROUNDS = 8
PIECES = 3


def line(points: dict[int, float]) -> tuple[float, float]:
    """Return intercept and slope of a line through points, fitted to relative errors."""
    x, y = np.array(list(points)), np.array(list(points.values()))
    slope, intercept = np.polyfit(x, y, 1, w=1 / y)
    return max(0.0, float(intercept)), max(0.0, float(slope))


def alone(server: Running, redis: Running | None, seconds: float) -> dict[str, Any]:
    """Measure the sidecar with nothing else to do: seconds, by events in a body."""
    found: dict[str, Any] = {"cpu": {}, "wall": {}, "redis": {}, "trips": {}}
    for size in SIZES:
        client = Client(("127.0.0.1", server.port), "none", "msgpack", size)
        client.run(ROUTE, seconds / 4, server.pid)
        rounds = []
        for _ in range(ROUNDS):
            before = redis.cpu_s() if redis else 0.0
            bodies, wall, cpu = client.run(ROUTE, seconds / ROUNDS, server.pid)
            spent = (redis.cpu_s() if redis else 0.0) - before
            rounds.append((cpu / bodies, wall / bodies, spent / bodies / size))
        cpus, walls, steps = zip(*rounds, strict=True)
        # CPU: the least, for what else runs can only add to it. Wall-clock: with what else runs.
        found["cpu"][size], found["wall"][size] = min(cpus), statistics.median(walls)
        found["redis"][size] = min(steps)
        connection = Connection(server.url)
        body = Body.build("msgpack", size, 99)
        trips = []
        for _ in range(200):
            begun = time.monotonic()
            assert connection.ask(bytes(body.renew()), begun + 5).status == 200
            trips.append(time.monotonic() - begun)
            time.sleep(0.002)
        connection.close()
        found["trips"][size] = trips
    return found


def costs_of(memory: dict[str, Any], redis: dict[str, Any] | None, clock: str) -> Costs:
    """Turn measurements into the model's costs, the work by `clock`: cpu or wall."""
    found = memory if redis is None else redis
    body, event = line(found[clock])

    def rest(one: dict[str, Any]) -> np.ndarray:
        return np.concatenate([np.subtract(one["trips"][n], one["wall"][n]) for n in SIZES])

    way = np.maximum(rest(memory), 1e-5)
    if redis is None:
        return Costs(body, event, float(way.mean()), way_spread=measured(way))
    step = float(np.mean(list(redis["redis"].values())))
    more = max(1e-5, float(rest(redis).mean() - way.mean()))
    return Costs(body, event, float(way.mean()), more, step, way_spread=measured(way))


class Stamped(deque[Answer]):
    """Answers of a sender, with the time of each."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def append(self, answer: Answer) -> None:
        self.times.append(time.monotonic())
        super().append(answer)

    def extend(self, answers: Iterable[Answer]) -> None:
        for answer in answers:
            self.append(answer)


def paced(server: Running, load: Load, seconds: float, seed: int) -> Outcome:
    """Ask the real sidecar by real senders, as so many engines would; the first second is left out.

    Every cue is of another trace: none of them stops anything.
    """
    rng = np.random.default_rng(seed)
    states = [
        HiddenState(row.tobytes(), "float16", (WIDTH,))
        for row in rng.normal(size=(64, WIDTH)).astype("<f2")
    ]
    senders = [Sender(Connection(server.url)) for _ in range(load.engines)]
    for sender in senders:
        sender.answers = Stamped()
    met: dict[str, float] = {}
    outcome = Outcome()
    begun, names = time.monotonic(), itertools.count()
    due = [(begun + load.step_s * rng.random(), n) for n in range(load.engines)]
    heapq.heapify(due)
    while due[0][0] < begun + 1 + seconds:
        at, number = heapq.heappop(due)
        time.sleep(max(0.0, at - time.monotonic()))
        for _ in range(rng.binomial(load.running, 1 / load.tokens_per_cue)):
            now, name = time.monotonic(), f"{seed}-{next(names)}"
            event = DecisionEvent(
                name, "synthetic", 1, states[next(names) % 64], alpha=0.1, audit=True
            )
            lost = senders[number].offer(Question(event, now + DEADLINE_S))
            if now >= begun + 1:
                met[name] = now
                if lost:
                    outcome.causes[lost] += 1
        step = load.step_s * (0.95 + 0.1 * rng.random())
        heapq.heappush(due, (max(at + step, time.monotonic()), number))
    time.sleep(DEADLINE_S / 2)
    for sender in senders:
        sender.close()
        assert isinstance(sender.answers, Stamped)
        for answer, when in zip(sender.answers, sender.answers.times, strict=True):
            if answer.request_id in met and answer.cause is None:
                outcome.latencies.append(when - met[answer.request_id])
            elif answer.request_id in met:
                outcome.causes[answer.cause or ""] += 1
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load")
    parser.add_argument("--alone", type=float, default=2.0, help="seconds of each measurement")
    parser.add_argument("--probe", choices=("linear", "mlp"), default="mlp")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    logging.disable(logging.WARNING)  # of senders whose answers are late
    report: dict[str, Any] = {"probe": asked.probe, "costs": {}, "loads": []}
    table = Table(title=f"from cue to answer, milliseconds; {asked.probe} probe")
    columns = "store, busy, cues a second, real p50, model, ratio, real p99, model, ratio"
    for column in columns.split(", "):
        table.add_column(column, justify="right")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "artifact"
        artifact(asked.probe).save(folder)
        memory: dict[str, Any] = {}
        bar = stack.enter_context(tqdm(total=2 + 2 * len(BUSY), desc="measured", leave=False))
        for store in ("memory", "redis"):
            with ExitStack() as inner:
                redis = inner.enter_context(redis_server()) if store == "redis" else None
                server = inner.enter_context(sidecar(folder, redis))
                found = alone(server, redis, asked.alone)
                bar.update()
                memory = memory or found
                other = None if redis is None else found
                wall = costs_of(memory, other, "wall")
                cpu = costs_of(memory, other, "cpu")
                report["costs"][store] = {
                    "body_us": 1e6 * cpu.body_s,
                    "event_us": 1e6 * cpu.event_s,
                    "redis_event_us": 1e6 * cpu.redis_step_s,
                    "wall_body_us": 1e6 * wall.body_s,
                    "wall_event_us": 1e6 * wall.event_s,
                    "way_us": 1e6 * wall.way_s,
                    "redis_us": 1e6 * (wall.redis_s or 0.0),
                }
                for busy in BUSY:
                    step = ENGINES * (wall.body_s + CUES * wall.event_s) / busy
                    load = Load(ENGINES, step_s=step, tokens_per_cue=64 / CUES, passing=0)
                    pieces = [
                        paced(server, load, asked.seconds / PIECES, asked.seed + number)
                        for number in range(PIECES)
                    ]
                    model = simulate(
                        load, wall, Fleet(deadline_s=DEADLINE_S),
                        seconds=4 * asked.seconds, seed=asked.seed,
                    )  # fmt: skip
                    bar.update()
                    row: dict[str, Any] = {"store": store, "busy": busy}
                    row["cues_per_s"] = load.cues_per_s
                    for name, q in (("p50", 0.5), ("p99", 0.99)):
                        real = statistics.median(piece.quantile(q) for piece in pieces)
                        row[f"{name}_ms"] = 1e3 * real
                        row[f"{name}_model_ms"] = 1e3 * model.quantile(q)
                        row[f"{name}_ratio"] = real / model.quantile(q)
                    report["loads"].append(row)
                    table.add_row(
                        *(f"{v:,.2f}" if isinstance(v, float) else str(v) for v in row.values())
                    )
    console = Console(width=120)
    console.print(table)
    console.print(json.dumps(report["costs"], indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=2) + "\n")
    within = all(
        1 / factor <= row[f"{name}_ratio"] <= factor
        for row in report["loads"]
        for name, factor in FACTORS.items()
    )
    return 0 if within else 1


if __name__ == "__main__":
    raise SystemExit(main())
