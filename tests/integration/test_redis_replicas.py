"""Two `stopper serve` processes on one Redis, which is killed and comes back under load."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from stopper.client import AsyncStopperClient, Decision, DecisionEvent, hidden_state
from tests.servers import RedisServer, redis_server, sidecar

ARTIFACT = Path(__file__).parents[2] / "examples" / "tiny_reasoner" / "artifact"
SIZE = 4 * 128
STATES = np.random.default_rng(0).normal(0.0, 4.0, (64, SIZE)).astype(np.float32)


class Walk:
    """Requests whose cues two replicas are asked about at the same time."""

    def __init__(self, replicas: tuple[AsyncStopperClient, AsyncStopperClient]) -> None:
        self._replicas = replicas
        self.known = 0
        self.unknown = 0
        self.stops = 0
        self.ends = False

    async def run(self, walkers: int = 6) -> None:
        await asyncio.gather(*(self._walk(f"request {n}") for n in range(walkers)))

    async def _walk(self, name: str) -> None:
        position = 0
        while not self.ends:
            position += 1
            event = DecisionEvent(
                name, "tiny", position, hidden_state=hidden_state(STATES[position % len(STATES)])
            )
            # The client raises at anything but a decision.
            both = await asyncio.gather(*(replica.decide(event) for replica in self._replicas))
            self._compare(*both)

    def _compare(self, one: Decision, two: Decision) -> None:
        lost = [decision for decision in (one, two) if decision.reason == "store_unavailable"]
        assert not any(decision.stop for decision in lost)
        self.unknown += len(lost)
        if lost:
            return
        assert (one.score, one.artifact) == (two.score, two.artifact)
        if "kill_switch" not in (one.reason, two.reason):  # it reaches the second a little later
            assert one == two
            self.stops += one.stop
        self.known += 1

    async def goes_on(self) -> None:
        goal = self.known + 60
        async with asyncio.timeout(120):
            while self.known < goal:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("persistent", [False, True])
def test_two_replicas_agree_and_nobody_notices_a_dead_redis(persistent: bool) -> None:
    async def run(server: RedisServer, urls: tuple[str, str]) -> None:
        async with (
            AsyncStopperClient(urls[0], retries=0) as one,
            AsyncStopperClient(urls[1], retries=0) as two,
        ):
            walk = Walk((one, two))
            task = asyncio.create_task(walk.run())
            try:
                await walk.goes_on()
                assert walk.stops > 0
                await one.set_kill_switch(True, "a trial")
                await asyncio.to_thread(server.kill)
                async with asyncio.timeout(120):
                    while walk.unknown < 40 or "store" not in (await one.ready()).degraded:
                        await asyncio.sleep(0.02)
                await asyncio.to_thread(server.start)
                await walk.goes_on()
                async with asyncio.timeout(120):
                    for replica in (one, two):
                        while (await replica.ready()).kill_switch != "a trial":
                            await asyncio.sleep(0.02)
            finally:
                walk.ends = True
                await task

    common = ("--artifact", f"tiny={ARTIFACT}", "--redis")
    with (
        redis_server(persistent=persistent) as server,
        sidecar(*common, server.url) as first,
        sidecar(*common, server.url) as second,
    ):
        asyncio.run(run(server, (first.url, second.url)))
        for process in (first, second):
            assert process.stop() == 0
            assert "Traceback" not in process.log()
