import asyncio
import time

import httpx
import pytest
from sidecars import replica, settings

from stopper.service.metrics import Metrics
from stopper.service.problems import ProblemError
from stopper.service.rates import Rates
from tests.servers import redis_server


async def refused(rates: Rates, times: int, key: str = "a", address: str = "") -> list[bool]:
    found = []
    for _ in range(times):
        try:
            await rates.spend(key, address)
            found.append(False)
        except ProblemError as error:
            assert error.problem.status == 429
            assert error.headers is not None
            assert 1 <= int(error.headers["Retry-After"]) <= 120
            found.append(True)
    return found


def test_beyond_the_bound_a_key_is_turned_away_and_others_are_not() -> None:
    async def run() -> None:
        rates = Rates(3, Metrics())
        assert await refused(rates, 5) == [False, False, False, True, True]
        assert await refused(rates, 1, "b") == [False]

    asyncio.run(run())


def test_without_keys_each_address_counts_for_itself() -> None:
    async def run() -> None:
        rates = Rates(1, Metrics())
        assert await refused(rates, 2, "anonymous", "10.0.0.1") == [False, True]
        assert await refused(rates, 2, "anonymous", "10.0.0.2") == [False, True]

    asyncio.run(run())


def test_the_answer_is_a_problem_and_the_probes_are_not_bound() -> None:
    async def run() -> list[httpx.Response]:
        async with replica(settings(limits={"requests_per_minute": 2})) as (client, _):
            answers = [await client.get("/v1/artifacts") for _ in range(3)]
            return [*answers, await client.get("/readyz"), await client.get("/livez")]

    answers = asyncio.run(run())
    assert [answer.status_code for answer in answers] == [200, 200, 429, 200, 200]
    assert answers[2].json()["type"] == "urn:stopper:problem:too-many-requests"
    assert int(answers[2].headers["retry-after"]) >= 1


def test_over_redis_two_replicas_count_together_and_without_it_nobody_is_turned_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with redis_server() as server:

        async def run() -> None:
            metrics = Metrics()
            one, two = (Rates(3, metrics, server.url) for _ in range(2))
            assert await refused(one, 2) == [False, False]
            assert await refused(two, 2) == [False, True]
            server.kill()
            assert await refused(one, 5) == [False] * 5
            labels = {"cause": "rate_store_unavailable"}
            assert metrics.registry.get_sample_value("stopper_fail_open_total", labels) == 5
            server.start()
            async with asyncio.timeout(10):
                while not (await refused(one, 1))[0]:  # once it has looked again
                    await asyncio.sleep(0.05)
            for rates in (one, two):
                await rates.close()

        asyncio.run(run())
    said = [record.message for record in caplog.records if "rates" in record.message]
    assert len(said) == 2  # once when it left, once when it came back


def test_a_redis_that_hangs_holds_nobody_up() -> None:
    with redis_server() as server:

        async def run() -> None:
            rates = Rates(1, Metrics(), server.url)
            assert await refused(rates, 1) == [False]
            server.hang()
            try:
                begin = time.monotonic()
                assert await refused(rates, 50) == [False] * 50
                assert time.monotonic() - begin < 3
            finally:
                server.go_on()
            await rates.close()

        asyncio.run(run())
