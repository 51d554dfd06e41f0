"""RedisStore on a real redis-server: it answers as MemoryStore does, also under a race."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from store_makers import opened, step, with_store

from probes.shaping import shape
from probes.spec import ProbeSpec
from stopper.service.store import Advanced, MemoryStore, Step, Store
from stopper.service.store.memory import MOST_STEPS
from stopper.service.store.redis import RedisStore
from tests.servers import RedisServer, redis_server, until

NAMES = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as started:
        yield started


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as made:
        made.flushall()
        yield made


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def shared(server: RedisServer, loop: asyncio.Runner) -> Iterator[RedisStore]:
    store = RedisStore(server.url, timeout_s=10.0)
    yield store
    loop.run(store.close())


float32 = st.floats(width=32)
moderate = st.floats(-(2.0**100), 2.0**100, width=32)
steps = st.builds(
    Step,
    request_id=st.sampled_from(["one", "two", "drei ü:{}"]),
    position=st.integers(0, 12) | st.just(2**31 - 1),
    level=float32 | st.sampled_from([0.0, -0.0, 1.0, 2.0**127, -(2.0**127), 2.0**-149]),
    weight=st.sampled_from([0.0, 0.1, 1.0, 3.0]),
    threshold=float32,
    alpha=st.sampled_from([None, 0.05, 0.1]) | st.just(0.05),
    artifact=st.sampled_from(["0123456789abcdef", "fedcba9876543210"]) | st.just("a"),
    audit=st.booleans(),
)


def renamed(made: Step, number: int) -> Step:
    return Step(
        f"{number} {made.request_id}", *(getattr(made, f) for f in Step.__struct_fields__[1:])
    )


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(steps, max_size=8), max_size=6))
def test_any_steps_are_answered_as_in_memory_to_the_bit(
    loop: asyncio.Runner, shared: RedisStore, batches: list[list[Step]]
) -> None:
    number = next(NAMES)
    memory = MemoryStore()

    async def both() -> None:
        for batch in batches:
            asked = [renamed(made, number) for made in batch]
            with np.errstate(over="ignore"):
                expected = await memory.advance(asked)
            # repr tells -0.0 from 0.0 and takes every NaN for the same.
            assert repr(await shared.advance(asked)) == repr(expected)

    loop.run(both())


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.floats(-(2.0**100), 2.0**100, width=32) | st.just(float("nan")), min_size=1, max_size=30
    ),
    st.floats(0.0, 4.0),
)
def test_scores_are_those_that_calibration_sees(
    loop: asyncio.Runner, shared: RedisStore, levels: list[float], weight: float
) -> None:
    spec = ProbeSpec(kind="linear", layers=(1,), hidden_size=4, shaping="rise", rise_weight=weight)
    name = f"shaped {next(NAMES)}"
    asked = [step(at, level, weight=weight, request_id=name) for at, level in enumerate(levels)]
    found = np.array([a.score for a in loop.run(shared.advance(asked))], np.float32)
    assert np.array_equal(found, shape(levels, spec), equal_nan=True)  # equal values, equal bits


def test_a_long_trace_forgets_its_oldest_answers_only(
    loop: asyncio.Runner, shared: RedisStore
) -> None:
    many = [step(3 * at, float(at % 7), request_id="long") for at in range(MOST_STEPS + 50)]
    again = [step(at, request_id="long") for at in range(0, many[-1].position, 2)]

    async def answers(store: Store) -> list[Advanced]:
        await store.advance(many)
        return await store.advance(again)

    found = loop.run(answers(shared))
    assert repr(found) == repr(loop.run(answers(MemoryStore())))
    assert {answer.outcome for answer in found} == {"repeated", "out_of_order"}
    assert found[0].outcome == "out_of_order"


changes = st.sampled_from([None, b"", b"a", b"\x00\xff", b"1", b"0"])
quarters = st.integers(-5, 5).map(lambda n: n / 4)
uses = st.one_of(
    st.tuples(st.just("update"), st.sampled_from(["k", "l"]), changes),
    st.tuples(st.just("get"), st.sampled_from(["k", "l"])),
    st.tuples(st.just("push"), st.sampled_from(["f"]), st.binary(max_size=3), st.integers(0, 4)),
    st.tuples(st.just("recent"), st.sampled_from(["f"]), st.integers(-1, 6)),
    st.tuples(
        st.just("count"),
        st.dictionaries(
            st.sampled_from(["x", "y z", "ü"]), st.integers(-5, 5).map(lambda n: n / 4)
        ),
    ),
    st.tuples(st.just("counts")),
    st.tuples(st.just("forget"), st.just("trace")),
    st.tuples(st.just("advance"), st.integers(0, 3).map(lambda at: [step(at)])),
    st.tuples(st.just("ping")),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(uses, max_size=12))
def test_values_feeds_and_counters_are_as_in_memory(
    loop: asyncio.Runner, server: RedisServer, used: list[tuple[Any, ...]]
) -> None:
    async def both() -> None:
        memory = MemoryStore()
        async with opened(server.url, prefix=f"p{next(NAMES)}") as store:
            for name, *given_ in used:
                arguments = list(given_)
                if name == "update":
                    new = arguments[1]
                    arguments[1] = lambda old, new=new: new if old is None else new and old + new
                found = await getattr(store, name)(*arguments)
                assert repr(found) == repr(await getattr(memory, name)(*arguments))

    loop.run(both())


def test_two_replicas_decide_each_position_once(server: RedisServer, client: redis.Redis) -> None:
    found: list[tuple[int, Advanced]] = []

    def replica(number: int) -> None:
        async def walk(store: RedisStore, walker: int) -> None:
            for position in range(40):
                level = float(100 * number + walker)
                [answer] = await store.advance([step(position, level, threshold=50.0)])
                found.append((position, answer))

        async def everybody(store: RedisStore) -> None:
            await asyncio.gather(*(walk(store, walker) for walker in range(8)))

        with_store(server.url, everybody)

    race(replica)
    assert len(found) == 2 * 8 * 40
    for position in range(40):
        answers = [answer for at, answer in found if at == position]
        assert sorted(a.outcome for a in answers) == ["new"] + ["repeated"] * 15
        assert len({(a.score, a.passes, a.position_marked) for a in answers}) == 1


def test_two_replicas_lose_no_change_of_a_shared_value(
    server: RedisServer, client: redis.Redis
) -> None:
    def replica(number: int) -> None:
        async def add(store: RedisStore, worker: int) -> None:
            for turn in range(8):
                mark = f"{number}.{worker}.{turn} ".encode()
                await store.update("log", lambda old, mark=mark: (old or b"") + mark)
                await store.count({"a": 1, "b": 0.5})

        async def everybody(store: RedisStore) -> None:
            await asyncio.gather(*(add(store, worker) for worker in range(6)))

        with_store(server.url, everybody)

    race(replica)

    async def look(store: RedisStore) -> None:
        marks = (await store.get("log") or b"").split()
        assert len(marks) == len(set(marks)) == 2 * 6 * 8
        assert await store.counts() == {"a": 96.0, "b": 48.0}

    with_store(server.url, look)


def race(replica: Any) -> None:
    """Run two replicas, each with its own connections and event loop; neither may fail."""
    failed: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            replica(number)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_a_change_that_raises_changes_nothing(server: RedisServer, client: redis.Redis) -> None:
    async def use(store: RedisStore) -> None:
        await store.update("key", lambda _: b"kept")
        with pytest.raises(KeyError):
            await store.update("key", lambda _: {}[1])
        assert await store.get("key") == b"kept"

    with_store(server.url, use)


def test_a_counter_refuses_what_is_not_finite(server: RedisServer, client: redis.Redis) -> None:
    async def use(store: RedisStore) -> None:
        with pytest.raises(ValueError, match="finite"):
            await store.count({"a": 1, "b": float("nan")})
        assert await store.counts() == {}

    with_store(server.url, use)


def test_each_step_renews_the_time_to_live(server: RedisServer, client: redis.Redis) -> None:
    key = "{stopper}:trace:trace"

    async def use(store: RedisStore) -> None:
        for asked in (step(5), step(5), step(4), step(6, artifact="x"), step(6, alpha=0.5)):
            await store.advance([asked])
            assert 50_000 < client.pttl(key) <= 60_000
            client.pexpire(key, 20_000)

    with_store(server.url, use, ttl_s=60.0)


def test_a_quiet_trace_is_forgotten(server: RedisServer, client: redis.Redis) -> None:
    async def use(store: RedisStore) -> None:
        await store.advance([step(5)])
        until(lambda: not client.keys(), "the end of the trace")
        [answer] = await store.advance([step(5)])
        assert answer.outcome == "new"

    with_store(server.url, use, ttl_s=0.05)


def test_nothing_but_traces_has_a_time_to_live(server: RedisServer, client: redis.Redis) -> None:
    async def use(store: RedisStore) -> None:
        await store.advance([step(1)])
        await store.update("control", lambda _: b"on")
        await store.push("decisions", b"item", 5)
        await store.count({"a": 1})

    with_store(server.url, use)
    lives = {key.decode(): client.ttl(key) for key in client.scan_iter()}
    assert lives.pop("{stopper}:trace:trace") == 3600
    assert lives == {
        "{stopper}:value:control": -1,
        "{stopper}:feed:decisions": -1,
        "{stopper}:counts": -1,
    }


def test_two_prefixes_do_not_meet(server: RedisServer, client: redis.Redis) -> None:
    async def use(store: RedisStore) -> None:
        await store.advance([step(5)])
        async with opened(server.url, prefix="other") as other:
            assert [a.outcome for a in await other.advance([step(5)])] == ["new"]

    with_store(server.url, use)
