"""RedisStore when Redis dies, hangs, forgets, refuses or is something else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from store_makers import PATIENT_S, opened, step, with_store

from stopper.errors import InputError
from stopper.service.settings import ServeSettings
from stopper.service.store import Advanced, Step, StoreUnavailable
from stopper.service.store.redis import RedisStore
from tests.servers import RedisServer, redis_server

TIMEOUT_S = 0.25
SLACK_S = 2.0  # for a busy machine; what hangs, hangs longer
PASSWORD = "p/a:s@s"


class Load:
    """Walkers that advance a trace each, and note what they were answered and when."""

    def __init__(self, store: RedisStore, walkers: int = 16) -> None:
        self._store = store
        self._walkers = walkers
        self.answers: dict[tuple[str, int], Advanced] = {}
        self.failures = 0
        self.longest = 0.0
        self.ends = False

    async def run(self) -> None:
        await asyncio.gather(*(self._walk(f"walker {n}") for n in range(self._walkers)))

    async def _walk(self, name: str) -> None:
        position = 0
        while not self.ends:
            began = time.monotonic()
            try:
                asked = step(position, float(position % 7), request_id=name, threshold=5.0)
                [answer] = await self._store.advance([asked])
            except StoreUnavailable:
                self.failures += 1
                await asyncio.sleep(0.002)
            else:
                self.answers[name, position] = answer
                position += 1
            self.longest = max(self.longest, time.monotonic() - began)

    async def patiently(self, asked: list[Step]) -> list[Advanced]:
        """Ask until it is answered: under this load one answer may come late."""
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(StoreUnavailable):
                    return await self._store.advance(asked)
                await asyncio.sleep(0.05)

    async def goes_on(self, patience_s: float = 10.0) -> None:
        """Wait until every walker has been answered again."""
        goal = len(self.answers) + 20 * self._walkers
        deadline = time.monotonic() + patience_s
        while len(self.answers) < goal:
            assert time.monotonic() < deadline, "nothing is answered"
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def under_load(url: str, timeout_s: float = TIMEOUT_S) -> Any:
    async with opened(url, timeout_s=timeout_s) as store:
        load = Load(store)
        task = asyncio.create_task(load.run())
        try:
            await load.goes_on()
            yield store, load
            await load.goes_on()
        finally:
            load.ends = True
            await task
        assert load.longest < timeout_s + SLACK_S


@pytest.mark.parametrize("persistent", [False, True])
def test_killed_and_restarted_under_load(persistent: bool) -> None:
    async def run(server: RedisServer) -> None:
        async with under_load(server.url) as (_, load):
            for _ in range(2):
                before = dict(load.answers)
                failed = load.failures
                await asyncio.to_thread(server.kill)
                await asyncio.sleep(0.3)
                assert load.failures > failed
                await asyncio.to_thread(server.start)
                await load.goes_on()
                again = [step(at, request_id=name) for name, at in before]
                found = await load.patiently(again[:500])
                if persistent:
                    assert {answer.outcome for answer in found} == {"repeated"}
                    told = list(before.values())[:500]
                    assert [a.score for a in found] == [a.score for a in told]
                    assert [a.position_marked for a in found] == [a.position_marked for a in told]
                else:  # traces begin anew: nothing is repeated that is not known
                    assert {answer.outcome for answer in found} == {"out_of_order"}

    with redis_server(persistent=persistent) as server:
        asyncio.run(run(server))


def test_a_hanging_redis_delays_nobody_for_long() -> None:
    async def run(server: RedisServer) -> None:
        async with under_load(server.url) as (store, _):
            server.hang()
            await asyncio.sleep(0.4)
            slow = 0
            began = time.monotonic()
            for _ in range(200):
                start = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    await store.get("control")
                slow += time.monotonic() - start > 0.1
            assert slow <= 10
            assert time.monotonic() - began < 5.0
            server.go_on()

    with redis_server() as server:
        asyncio.run(run(server))


def test_a_redis_that_only_does_not_write_likewise() -> None:
    async def run(server: RedisServer) -> None:
        async with under_load(server.url) as (_, load):
            with redis.Redis.from_url(server.url) as client:
                client.client_pause(60_000, all=False)
                await asyncio.sleep(0.5)
                assert load.failures > 0
                client.client_unpause()

    with redis_server() as server:
        asyncio.run(run(server))


def test_forgotten_scripts_are_taught_again() -> None:
    async def run(server: RedisServer) -> None:
        async with under_load(server.url, PATIENT_S) as (_, load):
            with redis.Redis.from_url(server.url) as client:
                for _ in range(20):
                    client.script_flush()
                    await asyncio.sleep(0.01)
            assert load.failures == 0
            assert {answer.outcome for answer in load.answers.values()} == {"new"}

    with redis_server() as server:
        asyncio.run(run(server))


def test_cut_connections_are_made_anew() -> None:
    async def run(server: RedisServer) -> None:
        async with opened(server.url) as store:
            await asyncio.gather(*(store.ping() for _ in range(20)))
            with redis.Redis.from_url(server.url) as client:
                client.client_kill_filter(_type="normal", skipme=True)
            await asyncio.sleep(0.05)
            await asyncio.gather(*(store.ping() for _ in range(20)))

    with redis_server() as server:
        asyncio.run(run(server))


def test_a_cancelled_call_leaves_no_answer_to_the_next() -> None:
    async def run(server: RedisServer) -> None:
        async with opened(server.url) as store:
            await store.update("key", lambda _: b"value")
            for turn in range(100):
                task = asyncio.create_task(store.advance([step(turn)]))
                for _ in range(turn % 12):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                assert await store.get("key") == b"value"

    with redis_server() as server:
        asyncio.run(run(server))


@pytest.mark.parametrize("options", ["", "?socket_timeout=5"])
def test_a_cancelled_loop_of_calls_ends(options: str) -> None:
    async def forever(store: RedisStore) -> None:
        while True:
            with contextlib.suppress(StoreUnavailable):
                await store.get("key")

    async def run(server: RedisServer) -> None:
        async with opened(server.url + options) as store:
            for turn in range(60):
                tasks = [asyncio.create_task(forever(store)) for _ in range(5)]
                await asyncio.sleep(turn * 1e-4)
                for task in tasks:
                    task.cancel()
                _, running = await asyncio.wait(tasks, timeout=5.0)
                assert not running

    with redis_server() as server:
        asyncio.run(run(server))


def test_more_callers_than_connections_all_get_their_answer() -> None:
    async def run(server: RedisServer) -> None:
        async with opened(f"{server.url}?max_connections=3") as store:
            found = await asyncio.gather(
                *(store.advance([step(1, request_id=str(n))]) for n in range(200))
            )
            assert all(answer.outcome == "new" for [answer] in found)
            with redis.Redis.from_url(server.url) as client:
                assert len(client.client_list()) <= 4

    with redis_server() as server:
        asyncio.run(run(server))


def test_a_full_redis_forgets_traces_before_the_kill_switch() -> None:
    async def run(server: RedisServer) -> None:
        async with opened(server.url) as store:
            await store.update("control", lambda _: b"on")
            big = "a" * 200_000
            asked = [step(5, request_id=str(n), artifact=big) for n in range(60)]
            for one in asked:
                await store.advance([one])
            assert await store.get("control") == b"on"
            assert (await store.advance(asked[-1:]))[0].outcome == "repeated"
            with redis.Redis.from_url(server.url) as client:
                assert 1 < client.dbsize() < 60

    options = ("--maxmemory", "6mb", "--maxmemory-policy", "volatile-lru")
    with redis_server(options=options) as server:
        asyncio.run(run(server))


def test_a_redis_that_refuses_to_write_can_still_be_read() -> None:
    async def run(server: RedisServer) -> None:
        async with opened(server.url) as store:
            await store.update("control", lambda _: b"on")
            with redis.Redis.from_url(server.url) as client:
                client.config_set("maxmemory", "1")
            with pytest.raises(StoreUnavailable, match=r"Redis refuses: .*maxmemory"):
                await store.advance([step(5)])
            assert await store.get("control") == b"on"

    with redis_server() as server:
        asyncio.run(run(server))


def test_a_replica_that_becomes_the_primary_is_used() -> None:
    async def run(server: RedisServer, other: RedisServer) -> None:
        async with opened(server.url) as store:
            await store.ping()
            with redis.Redis.from_url(server.url) as client:
                client.replicaof("127.0.0.1", other.port)
                with pytest.raises(StoreUnavailable):
                    await store.advance([step(5)])
                client.replicaof("NO", "ONE")
            async with asyncio.timeout(10):
                while True:
                    with contextlib.suppress(StoreUnavailable):
                        assert (await store.advance([step(5)]))[0].outcome == "new"
                        return
                    await asyncio.sleep(0.02)

    with redis_server() as server, redis_server() as other:
        asyncio.run(run(server, other))


def test_one_damaged_trace_does_not_shut_out_the_others() -> None:
    async def run(server: RedisServer) -> None:
        async with opened(server.url) as store:
            with redis.Redis.from_url(server.url) as client:
                client.set("{stopper}:trace:trace", "no hash")
                client.hset("{stopper}:trace:other", "head", "?")
            for name in ("trace", "other"):
                with pytest.raises(StoreUnavailable, match="Redis refuses"):
                    await store.advance([step(5, request_id=name)])
            assert (await store.advance([step(5, request_id="third")]))[0].outcome == "new"

    with redis_server() as server:
        asyncio.run(run(server))


def test_a_node_of_a_cluster_that_holds_every_slot_will_do() -> None:
    async def run(server: RedisServer) -> None:
        async with opened(server.url) as store:
            await store.advance([step(n, request_id=str(n)) for n in range(50)])
            await store.update("key", lambda _: b"value")
            await store.push("feed", b"item", 3)
            await store.count({"a": 1})
            assert await store.counts() == {"a": 1.0}
            with redis.Redis.from_url(server.url) as client:
                slots = {
                    client.execute_command("CLUSTER KEYSLOT", key) for key in client.scan_iter()
                }
                assert len(slots) == 1

    with redis_server(options=("--cluster-enabled", "yes")) as server:
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("CLUSTER ADDSLOTS", *range(16384))
            while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                time.sleep(0.05)
        asyncio.run(run(server))


def test_a_password_and_a_socket_file_by_url(tmp_path: Path) -> None:
    file = tmp_path / "redis.sock"
    quoted = PASSWORD.replace("/", "%2F").replace("@", "%40")

    async def use(store: RedisStore) -> None:
        assert (await store.advance([step(5)]))[0].outcome in ("new", "repeated")

    with redis_server(password=PASSWORD, options=("--unixsocket", str(file))) as server:
        with_store(f"redis://:{quoted}@127.0.0.1:{server.port}/0", use)
        with_store(f"unix://:{quoted}@{file}?db=0", use)


def test_a_wrong_password_is_told_but_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    async def use(store: RedisStore) -> None:
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=r"(?i)auth|password") as told:
                await store.ping()
            assert "geheim" not in f"{told.value!r} {told.value.__cause__!r}"
        assert "geheim" not in repr(vars(store))

    with redis_server(password="right") as server:
        with_store(server.url.replace("right", "geheim"), use)
    assert "geheim" not in caplog.text


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """Answer whatever arrives by the same bytes and hang up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listening.accept()
                    with peer:
                        peer.recv(4096)
                        peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$100\r\nhalf a value", b"-ERR no\r\n" * 9,
     b"*9999999\r\n", b"$-7\r\n", b"\xff\xfe\r\n" * 3, b"+OK\r\n" * 9, b":x\r\n" * 9],
)  # fmt: skip
def test_what_is_no_redis_is_unavailable(answer: bytes) -> None:
    async def use(store: RedisStore) -> None:
        calls = (
            lambda: store.advance([step(5)]),
            lambda: store.update("key", lambda _: b"x"),
            store.counts,
        )
        for call in calls:
            with pytest.raises(StoreUnavailable):
                await call()

    with answering(answer) as port:
        with_store(f"redis://127.0.0.1:{port}", use, timeout_s=1.0)


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("localhost:6379", "give redis://"),
        ("http://localhost", "give redis://"),
        ("", "give redis://"),
        ("redis://host:port", "give redis://"),
        ("redis://:pa/geheim@host", "written as %XX"),
        ("redis://:geheim@host/zero", "database"),
        ("redis://:geheim@host?databse=1", "databse"),
        ("redis://:geheim@host?socket_timeout=soon", "give redis://"),
        ("redis://:geheim@host?retry=3", "option"),
        ("redis://:geheim@host?decode_responses=yes", "decode_responses"),
        ("rediss://:geheim@host?ssl_ca_certs=/nowhere/ca.pem", "there is no /nowhere/ca.pem"),
        ("rediss://:geheim@host?ssl_cert_reqs=perhaps", "perhaps"),
    ],
)
def test_a_wrong_url_is_refused_with_the_remedy(url: str, names: str) -> None:
    with pytest.raises(InputError, match="redis: ") as refused:
        RedisStore(url)
    assert names in str(refused.value)
    assert "geheim" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("prefix", ["", "a b", "{x}", "ü/"])
def test_a_wrong_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(InputError, match="redis_prefix"):
        ServeSettings.read(upstreams="http://h", redis_prefix=prefix)
