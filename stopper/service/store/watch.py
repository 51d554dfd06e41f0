"""Looks whether the store is there, beside the requests, and says so."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, MutableMapping

from prometheus_client import Gauge

from stopper.service.store.base import Store, StoreUnavailable

EVERY_S = 1.0


@contextlib.asynccontextmanager
async def watching(
    store: Store, degraded: MutableMapping[str, str], gauge: Gauge, every_s: float = EVERY_S
) -> AsyncIterator[None]:
    """Keep `degraded["store"]` and the gauge true while inside.

    A store that is away, even at the start, makes nobody unready: the sidecar fails open, and what
    goes through its front must not end with the store.
    """
    await _look(store, degraded, gauge)
    task = asyncio.create_task(_look_forever(store, degraded, gauge, every_s))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _look_forever(
    store: Store, degraded: MutableMapping[str, str], gauge: Gauge, every_s: float
) -> None:
    while True:
        await asyncio.sleep(every_s)
        await _look(store, degraded, gauge)


async def _look(store: Store, degraded: MutableMapping[str, str], gauge: Gauge) -> None:
    try:
        await store.ping()
    except StoreUnavailable as error:
        degraded["store"] = str(error)
        gauge.set(0)
    else:
        degraded.pop("store", None)
        gauge.set(1)
