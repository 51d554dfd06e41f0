"""How long remote stop decisions take, how many are late, and what that costs, by simulation.

Run: ``python benchmarks/scaling.py [--plot FILE] [--json FILE] [--probe mlp] [--way-ms 1]``

Engines of 64 running requests make a step in 20 milliseconds and meet a cue every 50 tokens
(`benchmarks/engine_queue.py`); their senders, the sidecar's replicas and Redis are queues
(`benchmarks/decision_queue.py`). The first table varies the engines and the replicas, the second
one the time to the sidecar and back and the deadline. Several replicas use Redis, one its memory.

- p50, p99: milliseconds from a cue to its answer; a cue without an answer counts as infinite.
- late: share of the cues without a decision by the deadline: the model thinks on.
- lag: tokens from the cue that ended the thinking to its end; at best 1.
- extra: tokens after the first cue that would have ended the thinking, by request that has one;
  lost: their share of what that cue would have spared.

The costs are those of benchmarks/decisions.py and benchmarks/store.py, on two cores of a small CPU
machine; ``--costs FILE`` takes the ones that ``benchmarks/scaling_check.py --json FILE`` measured.
The same seed gives the same figures. A few minutes on one core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from decision_queue import Costs, Draw, Fleet, exponential
from engine_queue import Load, simulate
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

COSTS = {"linear": (149.4, 10.0), "mlp": (260.4, 71.9)}
"""Microseconds of the sidecar's CPU for a body and for an event in it: docs/sidecar.md, "Speed"."""
REDIS = (154.0, 42.0, 28.0)
"""More of them with Redis, and microseconds of Redis's own for an event: benchmarks/store.py."""
REDIS_WAY_S = 0.5e-3
ENGINES = (16, 64, 128, 192, 256)
REPLICAS = (1, 2, 4)
WAYS_MS = (1.0, 10.0, 50.0)
DEADLINES_MS = (20.0, 50.0, 100.0)
FAR_ENGINES = 32
TAIL = "share of bodies and ways that take longer, and by how many times"


@dataclass(frozen=True)
class Row:
    """One simulated fleet; times in milliseconds, infinite ones as None."""

    engines: int
    replicas: int
    way_ms: float
    deadline_ms: float
    cues_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    late: float
    lag_tokens: float | None
    extra_tokens: float | None
    lost: float | None


def tail(share: float, long: float) -> Draw:
    """Draw 1 with, for a share of them, an exponential of mean `long` more; scaled to mean 1."""

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        more = (rng.random(n) < share) * exponential(rng, n) * long
        return (1 + more) / (1 + share * long)

    return draw


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def mean(values: list[int]) -> float | None:
    return float(np.mean(values)) if values else None


def costs_of(asked: argparse.Namespace, replicas: int, way_ms: float) -> Costs:
    """Return what is given, or measured, for one replica or for several that share a Redis."""
    body, event = COSTS[asked.probe]
    body_more, event_more, step = REDIS
    if asked.costs:
        measured = json.loads(asked.costs.read_text())["costs"]
        body, event = (measured["memory"][name] for name in ("body_us", "event_us"))
        body_more = max(0.0, measured["redis"]["body_us"] - body)
        event_more = max(0.0, measured["redis"]["event_us"] - event)
        step = measured["redis"]["redis_event_us"]
    spread = tail(*asked.tail)
    if replicas == 1:
        return Costs(1e-6 * body, 1e-6 * event, 1e-3 * way_ms, spread=spread, way_spread=spread)
    return Costs(
        1e-6 * (body + body_more),
        1e-6 * (event + event_more),
        1e-3 * way_ms,
        REDIS_WAY_S,
        1e-6 * step,
        spread=spread,
        way_spread=spread,
    )


def run(
    asked: argparse.Namespace, engines: int, replicas: int, way_ms: float, deadline_ms: float
) -> Row:
    load = Load(engines)
    fleet = Fleet(replicas, 1e-3 * deadline_ms, asked.placement)
    costs = costs_of(asked, replicas, way_ms)
    found = simulate(load, costs, fleet, seconds=asked.seconds, seed=asked.seed)
    extra, spared = mean(found.late_tokens), mean(found.spared)
    return Row(
        engines, replicas, way_ms, deadline_ms, load.cues_per_s,
        finite(1e3 * found.quantile(0.5)), finite(1e3 * found.quantile(0.99)),
        found.late, mean(found.lags), extra,
        None if extra is None or spared is None else extra / spared,
    )  # fmt: skip


def show(title: str, rows: list[Row], *names: str) -> Table:
    table = Table(title=title)
    for name in (*names, "cues a second", "p50 ms", "p99 ms", "late", "lag", "extra", "lost"):
        table.add_column(name, justify="right")
    for row in rows:
        shown = [f"{getattr(row, name.replace(' ', '_')):g}" for name in names]
        shown.append(f"{row.cues_per_s:,.0f}")
        shown += ["none" if v is None else f"{v:.1f}" for v in (row.p50_ms, row.p99_ms)]
        shown.append(f"{100 * row.late:.1f} %")
        shown += ["" if v is None else f"{v:.1f}" for v in (row.lag_tokens, row.extra_tokens)]
        shown.append("" if row.lost is None else f"{100 * row.lost:.1f} %")
        table.add_row(*shown)
    return table


def plot(rows: list[Row], file: Path) -> None:
    """Draw p50 and p99 over the cue rate, a colour for each number of replicas."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    top = rows[0].deadline_ms
    for colour, replicas in enumerate(sorted({row.replicas for row in rows})):
        mine = [row for row in rows if row.replicas == replicas]
        rates = [row.cues_per_s for row in mine]
        for values, style in (("p99_ms", "-"), ("p50_ms", ":")):
            # Nothing beyond the deadline is waited for.
            drawn = [top if (v := getattr(row, values)) is None else min(v, top) for row in mine]
            name = f"{replicas} replica{'s' * (replicas > 1)}, {values[:3]}"
            axes.plot(rates, drawn, style, color=f"C{colour}", marker="o", ms=3, label=name)
    axes.axhline(top, color="grey", lw=0.8)
    axes.annotate("deadline", (rows[0].cues_per_s, 1.05 * top), color="grey")
    axes.set(xscale="log", yscale="log", ylim=(None, 2 * top))
    axes.set(xlabel="cues a second, all engines", ylabel="cue to answer, ms")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,g}")
    axes.set_xticks(rates, [f"{rate:,.0f}" for rate in rates])
    axes.minorticks_off()
    axes.legend(fontsize=8, ncols=2, loc="upper left", bbox_to_anchor=(0, 0.85))
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--engines", type=int, nargs="+", default=ENGINES)
    parser.add_argument("--replicas", type=int, nargs="+", default=REPLICAS)
    parser.add_argument("--far-engines", type=int, default=FAR_ENGINES, help="of the second table")
    parser.add_argument("--way-ms", type=float, default=1.0, help="to a replica and back")
    parser.add_argument("--deadline-ms", type=float, default=100.0)
    parser.add_argument("--probe", choices=tuple(COSTS), default="linear")
    parser.add_argument("--costs", type=Path, help="figures of benchmarks/scaling_check.py --json")
    parser.add_argument("--placement", choices=("even", "chance"), default="even")
    parser.add_argument("--tail", type=float, nargs=2, default=(0.01, 10.0), help=TAIL)
    parser.add_argument("--seconds", type=float, default=2.0, help="of simulated time, each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    asked = parser.parse_args()
    fleets = list(itertools.product(asked.replicas, asked.engines))
    fars = list(itertools.product(WAYS_MS, DEADLINES_MS))
    with tqdm(total=len(fleets) + len(fars), desc="fleets", leave=False) as bar:
        near, far = [], []
        for replicas, engines in fleets:
            near.append(run(asked, engines, replicas, asked.way_ms, asked.deadline_ms))
            bar.update()
        for way_ms, deadline_ms in fars:
            far.append(run(asked, asked.far_engines, 1, way_ms, deadline_ms))
            bar.update()
    console = Console(width=110)
    title = f"{asked.probe} probe, deadline {asked.deadline_ms:g} ms, way {asked.way_ms:g} ms"
    console.print(show(title, near, "replicas", "engines"))
    console.print(show("one replica, by distance", far, "way ms", "deadline ms"))
    if asked.json:
        report: dict[str, Any] = {"near": list(map(asdict, near)), "far": list(map(asdict, far))}
        asked.json.write_text(json.dumps(report, indent=2) + "\n")
    if asked.plot:
        plot(near, asked.plot)


if __name__ == "__main__":
    main()
