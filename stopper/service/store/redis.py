"""The store of several replicas: Redis, asked briefly, never relied on."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import FullJitterBackoff, NoBackoff
from redis.exceptions import (
    ClusterDownError,
    ConnectionError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    TimeoutError,
)

from stopper.errors import InputError
from stopper.service.store.base import Advanced, Change, Step, StoreUnavailable
from stopper.service.store.gate import Gate
from stopper.service.store.scripts import ADVANCE, EXCHANGE, Script, pack, unpack

CONNECTIONS = 32
"""Most connections of one process; further calls wait for one, within their time."""

MOST_TRIES = 100
"""Of an update whose value others keep changing."""

_AWAY = (ConnectionError, TimeoutError, ReadOnlyError, ClusterDownError, OSError)
"""The server is gone or unfit for everything, rather than refusing one command."""

_REMEDY = (
    "give redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], rediss://... for TLS, or unix:///SOCKET; "
    "special characters in a password are written as %XX"
)

T = TypeVar("T")


class RedisStore:
    """A `Store` in Redis 6 or newer, or what speaks like it.

    A call takes at most `timeout_s`; after a failure further calls fail at once for a short while
    (`Gate`). Nothing is retried that might have happened. Connections, scripts and data may be
    lost at any time.

    Parameters
    ----------
    url
        redis://, rediss:// or unix://, with redis-py's query options; may hold a password and is
        never repeated in a message.
    prefix
        Of all keys, which lie in one hash slot.
    ttl_s
        A trace that is not heard of for so long, in seconds, is forgotten.
    timeout_s
        Seconds of one call.

    Raises
    ------
    InputError
        If the URL cannot be understood; nothing is connected yet.

    """

    def __init__(
        self, url: str, prefix: str = "stopper", ttl_s: float = 3600.0, timeout_s: float = 0.25
    ) -> None:
        pool = _pool(url, timeout_s)
        self._client = Redis.from_pool(pool)  # which owns the pool, and closes it
        self._prefix = f"{{{prefix}}}:"
        self._ttl_ms = max(1, math.ceil(ttl_s * 1000))
        self._timeout = timeout_s
        self._gate = Gate(timeout_s)
        self._slots = asyncio.Semaphore(min(CONNECTIONS, pool.max_connections))

    async def advance(self, steps: Sequence[Step]) -> list[Advanced]:
        """See `Store`. One round trip for all steps."""
        calls = [(self._key("trace", step.request_id), *pack(step, self._ttl_ms)) for step in steps]
        if not calls:
            return []
        return [unpack(reply) for reply in await self._ask(lambda: self._run(ADVANCE, calls))]

    async def forget(self, request_id: str) -> None:
        """See `Store`."""
        await self._ask(lambda: self._command("DEL", self._key("trace", request_id)))

    async def get(self, key: str) -> bytes | None:
        """See `Store`."""
        found: bytes | None = await self._ask(lambda: self._command("GET", self._key("value", key)))
        return found

    async def update(self, key: str, change: Change) -> bytes | None:
        """See `Store`. Optimistic: exchanged only if nobody else has changed it meanwhile.

        Raises
        ------
        StoreUnavailable
            Also where others keep winning; whatever `change` raises passes through.

        """
        name = self._key("value", key)
        pause = FullJitterBackoff(cap=0.05, base=0.001)
        before = await self.get(key)
        for failures in range(MOST_TRIES):
            after = change(before)
            call = (name, *_optional(before), *_optional(after))
            done, *found = (await self._ask(functools.partial(self._run, EXCHANGE, [call])))[0]
            if done:
                return after
            before = found[0]
            await asyncio.sleep(pause.compute(failures))
        raise StoreUnavailable(f"{key}: changed by others {MOST_TRIES} times in a row")

    async def push(self, feed: str, item: bytes, keep: int) -> None:
        """See `Store`."""
        key = self._key("feed", feed)
        if keep < 1:
            await self._ask(lambda: self._command("DEL", key))
            return
        await self._ask(lambda: self._together([("LPUSH", key, item), ("LTRIM", key, 0, keep - 1)]))

    async def recent(self, feed: str, limit: int) -> list[bytes]:
        """See `Store`."""
        if limit < 1:
            return []
        key = self._key("feed", feed)
        found: list[bytes] = await self._ask(lambda: self._command("LRANGE", key, 0, limit - 1))
        return found[::-1]

    async def count(self, amounts: Mapping[str, float]) -> None:
        """See `Store`.

        Raises
        ------
        ValueError
            If an amount is not finite: Redis would add the others only.

        """
        if not all(map(math.isfinite, amounts.values())):
            raise ValueError("counters take finite amounts")
        key = self._key("counts")
        if amounts:
            added = [("HINCRBYFLOAT", key, name, by) for name, by in amounts.items()]
            await self._ask(lambda: self._together(added))

    async def counts(self) -> dict[str, float]:
        """See `Store`."""
        found = await self._ask(lambda: self._command("HGETALL", self._key("counts")))
        return {name.decode(): float(amount) for name, amount in found.items()}

    async def ping(self) -> None:
        """See `Store`."""
        await self._ask(lambda: self._command("PING"))

    async def close(self) -> None:
        """See `Store`."""
        with contextlib.suppress(RedisError, OSError):
            await self._client.aclose()

    def _key(self, *parts: str) -> bytes:
        return (self._prefix + ":".join(parts)).encode("utf-8", "surrogatepass")

    async def _command(self, *words: Any) -> Any:
        return await self._client.execute_command(*words)  # type: ignore[no-untyped-call]

    async def _run(self, script: Script, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run a script once per call, whose first element is the key, in one round trip."""
        replies = await self._pipelined([("EVALSHA", script.sha, 1, *call) for call in calls])
        forgotten = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if forgotten:  # a new server, or its cache was flushed
            again = await self._pipelined(
                [("EVAL", script.text, 1, *calls[number]) for number in forgotten]
            )
            for number, reply in zip(forgotten, again, strict=True):
                replies[number] = reply
        for reply in replies:
            if isinstance(reply, RedisError):
                raise reply
        return replies

    async def _pipelined(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return await pipe.execute(raise_on_error=False)

    async def _together(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run commands in a transaction."""
        async with self._client.pipeline(transaction=True) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return await pipe.execute()

    async def _ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call within the time, through the gate."""
        ticket = self._gate.enter()
        try:
            answer = await self._within_time(call)
        except _AWAY as error:
            why = f"Redis: {error or f'no answer within {self._timeout:g} s'}"
            self._gate.failed(ticket, why)
            if isinstance(error, ReadOnlyError):  # the primary has moved: look it up again
                await self._client.connection_pool.disconnect(inuse_connections=False)
            raise StoreUnavailable(why) from error
        except (RedisError, ValueError) as error:  # or what redis-py cannot read
            raise StoreUnavailable(f"Redis refuses: {error}") from error
        self._gate.worked()
        return answer

    async def _within_time(self, call: Callable[[], Awaitable[T]]) -> T:
        task = asyncio.current_task()
        assert task is not None
        cancelled = task.cancelling()
        try:
            async with asyncio.timeout(self._timeout), self._slots:
                return await call()
        finally:
            # Python 3.11's `wait_for`, which redis-py uses where the URL sets socket_timeout, can
            # swallow a cancellation: what runs in a loop would never end.
            if task.cancelling() > cancelled:
                raise asyncio.CancelledError


def _optional(value: bytes | None) -> tuple[bytes, bytes]:
    return (b"0", b"") if value is None else (b"1", value)


def _pool(url: str, timeout_s: float) -> ConnectionPool:
    """Check a URL as far as is possible without connecting."""
    try:
        pool = ConnectionPool.from_url(
            url,
            protocol=2,  # nothing of the newer one is needed, and it takes more to connect
            socket_timeout=None,  # `_ask` bounds each call; redis-py makes a task for its own bound
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            max_connections=CONNECTIONS * 2,  # those that are just being closed count as well
        )
    except ValueError:  # its text may hold parts of a password
        raise InputError(f"redis: the URL is not understood; {_REMEDY}") from None
    path = url.partition("://")[2].partition("?")[0].partition("/")[2]
    if not url.startswith("unix:") and path and not path.strip("/").isdigit():
        raise InputError(f"redis: the database in the URL is not a number; {_REMEDY}")
    if pool.connection_kwargs.get("decode_responses"):
        raise InputError("redis: decode_responses cannot be set in the URL; values are bytes")
    try:
        pool.make_connection()  # type: ignore[no-untyped-call]
    except (TypeError, AttributeError, RedisError, ValueError) as error:
        raise InputError(f"redis: an option in the URL is wrong: {error}; {_REMEDY}") from None
    for option in ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"):
        file = pool.connection_kwargs.get(option)
        if file is not None and not Path(file).exists():
            raise InputError(f"redis: {option} in the URL: there is no {file}")
    return pool
