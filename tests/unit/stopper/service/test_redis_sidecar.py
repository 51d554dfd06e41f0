"""A sidecar whose Redis is not there yet, goes, and comes back without its data."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sidecars import replica, settings

from stopper.errors import InputError
from stopper.service.control import Board, Switch
from stopper.service.runtime import Runtime, make_store
from stopper.service.store import MemoryStore
from stopper.service.store.redis import RedisStore
from tests.servers import RedisServer, redis_server

SWITCH = Switch(True, "ops", "trial", "2025-01-02T03:04:05Z")


def chosen(server: RedisServer) -> Any:
    return settings(redis=server.url, redis_timeout_s=1.0)


def told(runtime: Runtime) -> tuple[bool, float]:
    up = runtime.metrics.registry.get_sample_value("stopper_store_up")
    assert up is not None
    return "store" in runtime.degraded, up


async def until_told(runtime: Runtime, away: bool) -> None:
    async with asyncio.timeout(10):
        while told(runtime) != (away, 0.0 if away else 1.0):
            await asyncio.sleep(0.02)


def test_it_starts_without_redis_and_says_when_it_comes_and_goes() -> None:
    async def run(server: RedisServer) -> None:
        await asyncio.to_thread(server.kill)
        async with replica(chosen(server)) as (client, runtime):
            assert told(runtime) == (True, 0.0)
            answer = await client.get("/readyz")
            assert answer.status_code == 200
            assert "Redis" in answer.json()["degraded"]["store"]
            await asyncio.to_thread(server.start)
            await until_told(runtime, away=False)
            assert "store" not in (await client.get("/readyz")).json()["degraded"]
            await asyncio.to_thread(server.kill)
            await until_told(runtime, away=True)

    with redis_server() as server:
        asyncio.run(run(server))


def test_the_kill_switch_outlives_a_redis_that_lost_everything() -> None:
    async def run(server: RedisServer) -> None:
        async with replica(chosen(server)) as (_, one), replica(chosen(server)) as (_, two):
            await one.board.change(lambda old: type(old)(kill_switch=SWITCH))
            async with asyncio.timeout(10):
                while two.board.current.kill_switch is None:
                    await asyncio.sleep(0.02)
            await asyncio.to_thread(server.restart)
            await until_told(two, away=False)
            async with asyncio.timeout(10), replica(chosen(server)) as (_, new):
                while new.board.current.kill_switch is None:
                    await asyncio.sleep(0.02)
            assert one.board.current.kill_switch == two.board.current.kill_switch == SWITCH

    with redis_server() as server:
        asyncio.run(run(server))


def test_a_change_on_a_store_that_lost_the_record_keeps_the_rest_of_it() -> None:
    async def run() -> None:
        store = MemoryStore()
        board = Board(store)
        await board.change(lambda old: type(old)(kill_switch=SWITCH))
        await store.update("control", lambda _: None)
        changed = await board.change(lambda old: old)
        assert changed.kill_switch == SWITCH
        assert changed.generation == 2

    asyncio.run(run())


def test_the_settings_choose_the_store() -> None:
    assert isinstance(make_store(settings()), MemoryStore)
    assert isinstance(make_store(settings(redis="redis://localhost")), RedisStore)
    with pytest.raises(InputError, match=r"redis: .*give redis://"):
        make_store(settings(redis="localhost:6379"))
