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
    store: Store, unready: MutableMapping[str, str], gauge: Gauge, every_s: float = EVERY_S
) -> AsyncIterator[None]:
    """Keep `unready["store"]` and the gauge true while inside.

    A store that is away at the start is no error: the sidecar fails open until it comes.
    """
    await _look(store, unready, gauge)
    task = asyncio.create_task(_look_forever(store, unready, gauge, every_s))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _look_forever(
    store: Store, unready: MutableMapping[str, str], gauge: Gauge, every_s: float
) -> None:
    while True:
        await asyncio.sleep(every_s)
        await _look(store, unready, gauge)


async def _look(store: Store, unready: MutableMapping[str, str], gauge: Gauge) -> None:
    try:
        await store.ping()
    except StoreUnavailable as error:
        unready["store"] = str(error)
        gauge.set(0)
    else:
        unready.pop("store", None)
        gauge.set(1)
