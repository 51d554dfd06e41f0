"""Steps, and stores on one event loop, for the tests of the stores."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from stopper.service.store import Step
from stopper.service.store.redis import RedisStore

PATIENT_S = 10.0  # this machine may be busy; faults are told apart from that elsewhere


def step(position: int, level: float = 0.0, **changes: Any) -> Step:
    fields: dict[str, Any] = {
        "request_id": "trace",
        "weight": 0.0,
        "threshold": 1.0,
        "alpha": 0.05,
        "artifact": "0123456789abcdef",
        "audit": False,
    }
    return Step(position=position, level=level, **fields | changes)


@contextlib.asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[RedisStore]:
    store = RedisStore(url, **{"timeout_s": PATIENT_S, **options})
    try:
        yield store
    finally:
        await store.close()


def with_store(url: str, use: Callable[[RedisStore], Awaitable[object]], **options: Any) -> None:
    async def run() -> None:
        async with opened(url, **options) as store:
            await use(store)

    asyncio.run(run())
