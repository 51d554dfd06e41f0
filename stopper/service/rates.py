"""How many requests a minute a client may send: by API key, or by address where none is needed."""

from __future__ import annotations

import logging
import math
import time

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from stopper.service.metrics import Metrics
from stopper.service.problems import ProblemError
from stopper.service.store.base import StoreUnavailable
from stopper.service.store.gate import Gate

logger = logging.getLogger(__name__)

_ANSWER_S = 0.25


class Rates:
    """Counts requests a minute; in Redis, where there is one, all replicas together.

    While Redis is away everybody is let through, and counted.

    Parameters
    ----------
    per_minute
        The bound.
    metrics
        For requests let through without a look.
    redis
        URL; None counts in this process.
    prefix
        Of the keys in Redis.

    """

    def __init__(
        self, per_minute: int, metrics: Metrics, redis: str | None = None, prefix: str = "stopper"
    ) -> None:
        self._item = RateLimitItemPerMinute(per_minute)
        self._blind = metrics.fail_open.labels(cause="rate_store_unavailable")
        self._away = False
        self._gate = Gate(2 * _ANSWER_S)
        self._pool: ConnectionPool | None = None
        storage: MemoryStorage | RedisStorage = MemoryStorage()
        if redis is not None:
            self._pool = ConnectionPool.from_url(
                redis, socket_timeout=_ANSWER_S, socket_connect_timeout=_ANSWER_S
            )
            storage = RedisStorage(
                "async+redis://",  # the pool knows where
                implementation="redispy",
                key_prefix=f"{prefix}:rate",
                connection_pool=self._pool,  # type: ignore[arg-type]
            )
        self._limiter = SlidingWindowCounterRateLimiter(storage)

    async def spend(self, key: str, address: str) -> None:
        """Count one request.

        Parameters
        ----------
        key
            Name of the API key; "anonymous" counts by `address`.
        address
            Of the client.

        Raises
        ------
        ProblemError
            429, with Retry-After, beyond the bound.

        """
        who = f"address {address}" if key == "anonymous" else f"key {key}"
        try:
            ticket = self._gate.enter()
        except StoreUnavailable:
            self._blind.inc()
            return
        try:
            within = await self._limiter.hit(self._item, who)
            reset = None if within else await self._limiter.get_window_stats(self._item, who)
        except (RedisError, OSError, TimeoutError) as error:
            self._blind.inc()
            self._gate.failed(ticket, type(error).__name__)
            if not self._away:
                logger.error("rates are not bounded while Redis is away: %s", type(error).__name__)
            self._away = True
            return
        self._gate.worked()
        if self._away:
            logger.warning("rates are bounded again")
            self._away = False
        if reset is not None:
            wait = max(1, math.ceil(reset.reset_time - time.time()))
            raise ProblemError(
                "too-many-requests",
                f"At most {self._item.amount} requests a minute for {who.split()[0]}: "
                f"try again in {wait} s.",
                headers={"Retry-After": str(wait)},
            )

    async def close(self) -> None:
        """Let go of Redis."""
        if self._pool is not None:
            await self._pool.aclose()
