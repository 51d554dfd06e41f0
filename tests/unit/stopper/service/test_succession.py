import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import httpx
import pytest
from sidecars import ARTIFACT, MODEL, another, replica, settings

from stopper.service import succession
from stopper.service.control import Board, Control, Switch
from stopper.service.store import MemoryStore
from stopper.service.store.base import StoreUnavailable
from tests.servers import redis_server


def first_and_second(root: Path) -> Path:
    shutil.copytree(ARTIFACT, root / "first")
    another(root / "second")
    return root / "first"


async def artifact(client: httpx.AsyncClient) -> str:
    (card,) = (await client.get("/v1/artifacts")).json()["artifacts"]
    return str(card["artifact"])


async def until(holds: Callable[[], Awaitable[bool]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.02)


async def load(client: httpx.AsyncClient, folder: str | None, status: int = 200) -> httpx.Response:
    answer = await client.post("/v1/artifacts/load", json={"folder": folder})
    assert answer.status_code == status, answer.text
    return answer


def test_a_loaded_artifact_is_followed_by_the_other_replica_and_rolled_back(tmp_path: Path) -> None:
    chosen = settings(first_and_second(tmp_path))

    async def run() -> None:
        store = MemoryStore()
        async with replica(chosen, store) as (one, _), replica(chosen, store) as (two, _):
            before = await artifact(one)
            loaded = (await load(one, "second")).json()
            assert loaded["previous"] == before
            assert loaded["artifact"] != before
            assert await artifact(one) == loaded["artifact"]

            async def both(version: str) -> None:
                async def same() -> bool:
                    return [await artifact(one), await artifact(two)] == [version, version]

                await until(same, 2.0)

            await both(loaded["artifact"])
            await two.post("/v1/artifacts/rollback", json={})
            await both(before)
            await one.post("/v1/artifacts/rollback", json={"model": MODEL})
            await both(loaded["artifact"])
            text = (await two.get("/metrics")).text
            infos = [
                line for line in text.splitlines() if line.startswith("stopper_artifact_info{")
            ]
            assert sorted(float(line.split()[-1]) for line in infos) == [0.0, 1.0]

    asyncio.run(run())


def test_a_replica_that_cannot_follow_is_unready_decides_nothing_and_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(succession, "LOOK_S", 0.1)
    monkeypatch.setattr(succession, "RETRY_S", 0.2)
    here, there = tmp_path / "here", tmp_path / "there"
    first = first_and_second(here)
    shutil.copytree(first, there / "first")

    async def run() -> None:
        store = MemoryStore()
        async with (
            replica(settings(first), store) as (one, _),
            replica(settings(there / "first"), store) as (two, runtime),
        ):
            await load(one, "second")

            async def unready() -> bool:
                return (await two.get("/readyz")).status_code == 503

            await until(unready, 2.0)
            told = (await two.get("/readyz")).json()
            assert str(tmp_path) not in str(told)
            assert "second" in told["unready"][f"artifact of {MODEL}"]
            assert told["artifacts"][0]["silence"] == "artifact_unavailable"
            assert runtime.catalog.silence(MODEL) == "artifact_unavailable"
            assert (await one.get("/readyz")).status_code == 200
            another(there / "second")  # of the same name, but another version
            await asyncio.sleep(0.5)
            assert await unready()
            shutil.rmtree(there / "second")
            shutil.copytree(here / "second", there / "second")

            async def ready() -> bool:
                return (await two.get("/readyz")).status_code == 200

            await until(ready, 8.0)
            assert await artifact(two) == await artifact(one)
            assert runtime.catalog.silence(MODEL) is None

    asyncio.run(run())


@pytest.mark.parametrize("folder", ["..", ".", "", "/etc", "a/b", "none", "../second", "x\x00y"])
def test_a_folder_that_cannot_be_served_changes_nothing_and_tells_no_path(
    tmp_path: Path, folder: str
) -> None:
    chosen = settings(first_and_second(tmp_path))

    async def run() -> None:
        async with replica(chosen) as (client, runtime):
            before = await artifact(client)
            answer = await load(client, folder, 422)
            assert answer.headers["content-type"] == "application/problem+json"
            assert str(tmp_path) not in answer.text
            assert await artifact(client) == before
            assert runtime.board.current.active == {}

    asyncio.run(run())


def test_what_was_never_replaced_cannot_be_rolled_back(tmp_path: Path) -> None:
    async def run() -> None:
        async with replica(settings()) as (client, _):
            answer = await client.post("/v1/artifacts/rollback", json={})
            assert answer.status_code == 409
            unknown = await client.post("/v1/artifacts/load", json={"model": "huge"})
            assert unknown.status_code == 404
            assert MODEL in unknown.json()["detail"]

    asyncio.run(run())


def test_a_folder_written_anew_is_served_after_a_hang_up(tmp_path: Path) -> None:
    first = first_and_second(tmp_path)

    async def run() -> None:
        async with replica(settings(first)) as (client, runtime):
            before = await artifact(client)
            another(first)
            assert await artifact(client) == before
            runtime.hang_up()

            async def changed() -> bool:
                return await artifact(client) != before

            await until(changed, 2.0)
            (first / "manifest.json").write_text("{}")
            now = await artifact(client)
            runtime.hang_up()
            await asyncio.sleep(0.1)
            assert await artifact(client) == now
            await client.post("/v1/artifacts/rollback", json={})
            assert await artifact(client) == before  # still held in memory

    asyncio.run(run())


class Later(datetime):
    """A clock that is ten days ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(days=10)


def test_an_artifact_that_expires_while_serving_falls_silent_but_the_replica_stays_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = another(tmp_path / "brief", timedelta(days=9))
    later = another(tmp_path / "later", timedelta(days=20))
    monkeypatch.setattr(succession, "LOOK_S", 0.1)

    async def run() -> None:
        async with replica(settings(folder)) as (client, runtime):
            assert runtime.catalog.silence(MODEL) is None
            monkeypatch.setattr(succession, "datetime", Later)

            async def silent() -> bool:
                return runtime.catalog.silence(MODEL) == "artifact_unavailable"

            await until(silent, 4.0)
            told = await client.get("/readyz")
            assert told.status_code == 200
            assert "expired" in told.json()["degraded"][f"artifact of {MODEL}"]
            await load(client, later.name)
            assert runtime.catalog.silence(MODEL) is None
            assert (await client.get("/readyz")).json()["degraded"] == {}

    asyncio.run(run())


def test_a_replica_that_starts_later_serves_what_the_others_were_told(tmp_path: Path) -> None:
    chosen = settings(first_and_second(tmp_path))

    async def run() -> None:
        store = MemoryStore()
        async with replica(chosen, store) as (one, _):
            await load(one, "second")
            async with replica(chosen, store) as (two, _):
                assert await artifact(two) == await artifact(one)

    asyncio.run(run())


def test_the_kill_switch_reaches_a_second_replica_within_a_second_over_redis() -> None:
    async def run(url: str) -> None:
        chosen = settings(redis=url)
        async with replica(chosen) as (one, _), replica(chosen) as (two, runtime):
            took = []
            for on in (True, False, True, False):
                begin = time.monotonic()
                answer = await one.post("/v1/kill-switch", json={"on": on, "why": "drill"})
                assert answer.json()["on"] is on

                async def seen(on: bool = on) -> bool:
                    told = (await two.get("/readyz")).json()
                    return told["kill_switch"] == ("drill" if on else None)

                await until(seen, 5.0)
                took.append(time.monotonic() - begin)
                version = runtime.catalog.active(MODEL).version
                assert runtime.board.current.silence(version) == ("kill_switch" if on else None)
                assert f"stopper_kill_switch {float(on)}" in (await two.get("/metrics")).text
            assert min(took) < 1.0  # the others may have waited for the machine

    with redis_server() as server:
        asyncio.run(run(server.url))


def test_without_its_store_an_operator_is_told_that_nothing_was_changed() -> None:
    async def run(url: str) -> None:
        async with replica(settings(redis=url)) as (client, runtime):
            server.kill()
            answer = await client.post("/v1/kill-switch", json={"on": True, "why": ""})
            assert answer.status_code == 503
            assert "nothing was changed" in answer.json()["detail"]
            assert (await load(client, None, 503)).json()["status"] == 503
            assert runtime.board.current == Control()
            assert (await client.get("/readyz")).status_code == 200

    with redis_server() as server:
        asyncio.run(run(server.url))


def test_a_store_that_lost_the_record_gets_it_back() -> None:
    async def run() -> None:
        store = MemoryStore()
        board, late = Board(store), Board(store)
        switched = Control(kill_switch=Switch(True, "ops", "", ""))
        await board.change(lambda _: switched)
        await store.update("control", lambda _: None)
        assert (await board.refresh()).kill_switch == switched.kill_switch
        assert (await late.refresh()).kill_switch == switched.kill_switch
        await late.change(lambda old: Control())
        assert (await board.refresh()).kill_switch is None

    asyncio.run(run())


class Away(MemoryStore):
    async def get(self, key: str) -> bytes | None:
        raise StoreUnavailable("away")


def test_a_board_without_its_store_says_so() -> None:
    async def run() -> None:
        board = Board(Away())
        async with board.refreshing():
            assert not board.reachable

    asyncio.run(run())
