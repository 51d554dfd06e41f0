"""What traces cost in Redis: memory, operations, and time, through the sidecar's real store.

Run: ``python benchmarks/store.py [--traces 500] [--json FILE]``

A redis-server of its own takes traces through `RedisStore.advance`, as the sidecar does. Printed
is, for traces of so many cues each, what Redis holds for one: `used_memory` by its own account,
divided by the traces, and the median of MEMORY USAGE of the keys. Below that: Redis's own CPU
microseconds for a cue, and what a cue costs the sidecar's process in the store's client, in batches
of 1 and of 32, each the least of 20 rounds; and the bytes of the fleet's counters and of the feed
of latest decisions.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import redis
from real_sidecar import Running, redis_server
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from stopper.service.store import Step
from stopper.service.store.redis import RedisStore

CUES = (1, 5, 20, 50, 100, 200, 500)
BATCH = 64
"""Of traces that take a cue at a time."""
ROUNDS = 20


def step(trace: str, position: int, level: float = 0.0) -> Step:
    """Return a cue; a trace is named as the plugin names it: engine, number, request."""
    return Step(trace, position, level, 1.0, 8.0, 0.05, "0123456789abcdef", False)


def name(number: int) -> str:
    return f"0123456789ab-{number}-chatcmpl-{number:032x}"


async def fill(store: RedisStore, traces: int, cues: int) -> None:
    rng = np.random.default_rng(0)
    for begin in range(0, traces, BATCH):
        names = [name(number) for number in range(begin, min(begin + BATCH, traces))]
        for cue in range(cues):
            levels = rng.normal(size=len(names)).astype("f4").tolist()
            await store.advance(
                [step(one, 40 * cue + 1, level) for one, level in zip(names, levels, strict=True)]
            )


async def memory(server: Running, traces: int, lengths: list[int]) -> list[dict[str, Any]]:
    rows = []
    with redis.Redis.from_url(server.url) as client:
        for cues in tqdm(lengths, desc="memory", leave=False):
            count = max(20, min(traces, 50 * traces // cues))
            client.flushall()
            before = client.info("memory")["used_memory"]
            store = RedisStore(server.url, timeout_s=30.0)
            await fill(store, count, cues)
            await store.close()
            after = client.info("memory")["used_memory"]
            keys = list(client.scan_iter("*trace*", count=1000))
            assert len(keys) == count, "a trace is missing"
            usage = [client.memory_usage(key, samples=0) for key in keys[:200]]
            rows.append(
                {
                    "cues": cues,
                    "used_bytes": round((after - before) / count),
                    "key_bytes": round(statistics.median(usage)),
                    "encoding": client.object("encoding", keys[0]).decode(),
                }
            )
    return rows


async def speed(server: Running, rounds: int) -> list[dict[str, Any]]:
    """Return what a cue costs Redis and the store's client, by the CPU clock of each."""
    rows = []
    store = RedisStore(server.url, timeout_s=30.0)
    position = 0
    for batch in (1, 32):
        names = [name(number) for number in range(batch)]
        spent: list[list[float]] = []
        for turn in range(ROUNDS):
            calls = rounds // batch
            clocks = (server.cpu_s(), time.process_time(), time.perf_counter())
            for _ in range(calls):
                position += 1
                await store.advance([step(one, position) for one in names])
            after = (server.cpu_s(), time.process_time(), time.perf_counter())
            if turn:  # the first one warms up
                pairs = zip(clocks, after, strict=True)
                spent.append([1e6 * (b - a) / calls / batch for a, b in pairs])
        # The least: whatever else runs on the machine can only add to it.
        ours, client, wall = (min(column) for column in zip(*spent, strict=True))
        rows.append(
            {"batch": batch, "redis_us": ours, "client_us": client, "cues_per_s": 1e6 / wall}
        )
    await store.close()
    return rows


async def rest(server: Running) -> dict[str, int]:
    """Return the bytes of what does not grow with traces."""
    from stopper.service.decisions.tally import COUNTER, FEED, KEPT

    store = RedisStore(server.url, timeout_s=30.0)
    reasons = ("score_above_threshold", "score_below_threshold", "audit", "kill_switch", "alarm")
    await store.count({COUNTER.format(decision="continue", reason=one): 1e6 for one in reasons})
    for _ in range(KEPT):
        await store.push(FEED, bytes(300), KEPT)
    await store.close()
    with redis.Redis.from_url(server.url) as client:
        return {
            "counters": sum(client.memory_usage(key) for key in client.scan_iter("*:counts")),
            "feed": sum(client.memory_usage(key) for key in client.scan_iter("*:feed:*")),
        }


async def measure(asked: argparse.Namespace) -> dict[str, Any]:
    with redis_server() as server:
        report: dict[str, Any] = {"traces": await memory(server, asked.traces, asked.cues)}
        report["speed"] = await speed(server, asked.rounds)
        report["fixed_bytes"] = await rest(server)
        with redis.Redis.from_url(server.url) as client:
            report["redis"] = client.info("server")["redis_version"]
    return report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--traces", type=int, default=500, help="fewer where they are long")
    parser.add_argument("--cues", type=int, nargs="+", default=CUES, help="of a trace")
    parser.add_argument("--rounds", type=int, default=640, help="cues of a timing")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    report = asyncio.run(measure(asked))
    console = Console(width=110)
    for title, rows in (("one trace in Redis", report["traces"]), ("one cue", report["speed"])):
        table = Table(*rows[0], title=title)
        for row in rows:
            table.add_row(*(f"{v:,.1f}" if isinstance(v, float) else str(v) for v in row.values()))
        console.print(table)
    console.print("bytes that do not grow with traces:", json.dumps(report["fixed_bytes"]))
    console.print("redis-server", report["redis"])
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
