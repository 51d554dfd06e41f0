import asyncio
import base64
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from audit_makers import (
    VERSION,
    ask,
    audits_of,
    bad,
    counted,
    engine,
    fields,
    hand_in,
    outcomes,
    standing,
    until,
)
from sidecars import MODEL, replica, settings

from stopper.scripted.serving import serving
from stopper.service.audits import desk
from stopper.service.runtime import Runtime
from stopper.service.status.records import Status
from tests.servers import RedisServer, redis_server

ZEROS = base64.b64encode(bytes(1024)).decode()
PATIENT = 5.0  # of one call to Redis: this machine may be busy

Replica = tuple[httpx.AsyncClient, Runtime]


@contextlib.asynccontextmanager
async def two(redis: RedisServer, **changes: Any) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two sidecars on one Redis."""
    chosen = settings(redis=redis.url, redis_timeout_s=PATIENT, **changes)
    async with replica(chosen) as first, replica(chosen) as second:
        yield first, second


async def reason(client: httpx.AsyncClient, request_id: str) -> str:
    """Why an event with a high score is stopped, or not."""
    event = {
        "request_id": request_id,
        "model": MODEL,
        "position": 5,
        "hidden_state": {"data": ZEROS, "dtype": "float16", "shape": [512]},
        "audit": False,
    }
    answer = await client.post("/v1/stop-decisions", json=event)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["reason"])


async def re_arm(client: httpx.AsyncClient, status: int = 200, **changes: Any) -> dict[str, Any]:
    body = {"artifact": VERSION, "why": "the prompts were changed back"} | changes
    answer = await client.post("/v1/alarm/re-arm", json=body)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_an_alarm_silences_all_replicas_within_a_second_and_a_re_arming_brings_them_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run() -> None:
        app = engine()
        with redis_server() as redis, serving(app) as url:
            async with two(redis, upstreams=[url], audits={"share": 0.0}) as (one, other):
                clients = [one[0], other[0]]
                assert await reason(one[0], "a") == await reason(other[0], "b") != "alarm"
                assert (await ask(one[0], "right")).json()["stopper"]["decision"] == "stopped"
                receipt = await hand_in(one[0], bad(range(20)))
                assert receipt == {
                    "counted": 20, "waiting": 0, "left_out": [], "alarms": [VERSION]
                }  # fmt: skip

                async def silent() -> bool:
                    return [await reason(client, "c") for client in clients] == ["alarm"] * 2

                assert await until(silent) < 1.0
                for client in clients:
                    report = (await ask(client, "right")).json()["stopper"]
                    assert (report["decision"], report["reason"]) == ("off", "alarm")
                    ready = await client.get("/readyz")
                    assert ready.status_code == 200
                    assert "20 of 20 audits" in ready.json()["alarms"][VERSION]
                    assert await counted(client, "stopper_alarm") == {VERSION: 1}
                assert caplog.text.count("ALARM: artifact") == 2

                answer = await re_arm(other[0])
                assert answer["rearmed"]["why"] == "the prompts were changed back"
                assert answer["rearmed"]["times"] == 1

                async def back() -> bool:
                    found = [await reason(client, "d") for client in clients]
                    return "alarm" not in found and await standing(one[0]) is None

                await until(back)
                for client in clients:
                    assert (await ask(client, "right")).json()["stopper"]["decision"] == "stopped"
                    assert await counted(client, "stopper_alarm") == {VERSION: 0}
                    status = msgspec.json.decode(
                        (await client.get("/v1/status")).content, type=Status
                    )
                    assert status.artifacts[0].rearmed == status.control.rearmed[VERSION]
                old = await one[1].store.get(f"monitor:{VERSION}:0")
                assert old is not None
                late = fields(0, loss=1, time="2026-03-01T00:00:00Z")
                assert (await hand_in(one[0], late))["left_out"][0]["outcome"] == "before_rearm"

    asyncio.run(run())


def test_two_replicas_racing_lose_no_audit_and_count_none_twice() -> None:
    async def run() -> None:
        with redis_server() as redis:
            async with two(redis, alpha=0.2) as (one, other):
                bodies = [
                    {"audits": [fields(n, loss=int(n % 10 == 0)) for n in range(k, k + 5)]}
                    for k in range(0, 60, 3)  # each body has two audits of the one before
                ]
                sides = [one[0], other[0]]
                tasks = [hand_in(sides[n % 2], body) for n, body in enumerate(bodies)]
                receipts = await asyncio.gather(*tasks, *(hand_in(sides[1], b) for b in bodies[:3]))
                assert sum(receipt["counted"] for receipt in receipts) == 62
                lefts = [left["outcome"] for receipt in receipts for left in receipt["left_out"]]
                assert lefts == ["repeated"] * (len(receipts) * 5 - 62)

                async def agreed() -> bool:
                    return [await audits_of(client) for client in sides] == [(62, 7)] * 2

                await until(agreed)
                counts = [await outcomes(client) for client in sides]
                assert sum(found.get("good", 0) + found.get("bad", 0) for found in counts) == 62

    asyncio.run(run())


def test_evidence_and_alarm_survive_the_sidecar_and_repeats_still_count_once() -> None:
    async def run() -> None:
        with redis_server() as redis:
            chosen = settings(redis=redis.url, redis_timeout_s=PATIENT)
            async with replica(chosen) as (client, _):
                await hand_in(client, bad(range(3)))
            async with replica(chosen) as (client, _):
                receipt = await hand_in(client, bad(range(20)))
                assert receipt["counted"] == 17
                assert receipt["alarms"] == [VERSION]
            async with replica(chosen) as (client, _):
                assert await reason(client, "a") == "alarm"

                async def known() -> bool:
                    return await audits_of(client) == (20, 20)

                await until(known)

    asyncio.run(run())


def test_audits_wait_while_redis_is_away_and_come_in_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(desk, "MOST_WAITING", 25)
    monkeypatch.setattr(desk, "LOOK_S", 0.1)

    async def run() -> None:
        with redis_server() as redis:
            async with replica(settings(redis=redis.url)) as (client, _):
                assert (await hand_in(client, fields(0)))["counted"] == 1
                redis.kill()
                answer = await client.post(
                    "/v1/audits", json={"audits": [fields(number) for number in range(20)]}
                )
                assert answer.status_code == 202
                assert answer.json()["waiting"] == 20
                late = await client.post(
                    "/v1/audits", json={"audits": [fields(number) for number in range(30, 40)]}
                )
                assert {left["outcome"] for left in late.json()["left_out"]} == {"lost"}
                status = (await client.get("/v1/status")).json()
                assert status["store"] == {"kind": "redis", "reachable": False}
                assert status["auditing"]["waiting"] == 20
                assert status["auditing"]["lost"] == 10
                await re_arm(client, 503)
                redis.start()  # empty: what was known comes back from the sidecar

                async def all_in() -> bool:
                    return await audits_of(client) == (20, 0)

                await until(all_in)
                assert (await outcomes(client))["lost"] == 10

    asyncio.run(run())


def test_wrong_audits_and_words_are_refused_by_their_field(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)

    async def run() -> None:
        async with replica(settings()) as (client, _):
            cases: list[tuple[Any, int, str]] = [
                (fields(loss=2), 422, "audit: loss"),
                (fields(score=None), 422, "score: must be a number exactly where marked"),
                ({"audits": [fields(), fields(1, alpha=1.0)]}, 422, "audits[1]: alpha"),
                (fields(extra=1), 422, "extra"),
                ({"audits": []}, 422, "audits: must be a list"),
                ({"audits": [fields()], "more": 1}, 422, "and alone"),
                ({"audits": [fields(n) for n in range(1001)]}, 413, "at most 1000"),
                (fields(loss_name="harm"), 422, "audits[0].loss_name"),
                ([fields()], 422, "list instead of an object"),
            ]
            for body, status, told in cases:
                answer = await client.post("/v1/audits", json=body)
                assert (answer.status_code, told in answer.text) == (status, True), answer.text
                assert answer.headers["content-type"] == "application/problem+json"
            for content in (b'{"a": NaN}', b"{", b"\xff"):
                answer = await client.post(
                    "/v1/audits", content=content, headers={"content-type": "application/json"}
                )
                assert answer.status_code == 400
            assert (await client.post("/v1/audits", content=b"{}")).status_code == 415
            assert await standing(client) is None
            foreign = await hand_in(client, fields(artifact="0" * 16))
            assert foreign["left_out"][0]["outcome"] == "unknown_artifact"

            await re_arm(client, 409)
            for wrong in ({"why": ""}, {"artifact": "tiny"}, {"who": "me"}):
                await re_arm(client, 400, **wrong)

    asyncio.run(run())


def test_a_state_of_other_settings_is_told_and_may_begin_anew() -> None:
    async def run() -> None:
        with redis_server() as redis:
            patient = {"redis": redis.url, "redis_timeout_s": PATIENT}
            async with replica(settings(**patient)) as (client, _):
                await hand_in(client, fields(0))
            stricter = settings(**patient, audits={"delta": 0.001})
            async with replica(stricter) as (client, _):
                receipt = await hand_in(client, fields(1))
                assert receipt["left_out"][0]["outcome"] == "refused"
                (artifact,) = (await client.get("/v1/status")).json()["artifacts"]
                assert "delta" in artifact["fault"]
                await re_arm(client)
                assert (await hand_in(client, fields(2)))["counted"] == 1
                (artifact,) = (await client.get("/v1/status")).json()["artifacts"]
                assert artifact["fault"] is None

    asyncio.run(run())
