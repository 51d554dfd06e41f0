"""What all parts of the sidecar share, in one process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field

from stopper.service.auth import KeyRing
from stopper.service.catalog import Catalog
from stopper.service.control import Board
from stopper.service.metrics import Metrics
from stopper.service.proxy.finished import FinishedRequests
from stopper.service.rates import Rates
from stopper.service.settings import ServeSettings
from stopper.service.store import MemoryStore, Store
from stopper.service.store.watch import watching

Lifespan = Callable[[], AbstractAsyncContextManager[object]]


@dataclass(slots=True)
class Runtime:
    """Settings and shared objects; parts add what runs beside the requests by `while_running`.

    Attributes
    ----------
    draining
        Set on the way out: `/readyz` says so, and no new work is begun.
    in_flight
        Requests that are being answered.
    unready
        Reasons why this replica is not ready, by part; empty where it is.
    degraded
        Reasons why it stops nothing, or not all it could, by part; it is ready all the same.
    details
        Called for `/readyz`, by part; each returns what JSON can hold and must not raise.
    looks
        Called once a second and at each scrape to set gauges; they must not raise.
    rates
        None without a bound.
    hang_up
        Called on SIGHUP.
    finished
        Tells of requests that went through the OpenAI-compatible front.

    """

    settings: ServeSettings
    store: Store
    catalog: Catalog
    board: Board
    metrics: Metrics
    keys: KeyRing
    draining: bool = False
    unready: dict[str, str] = field(default_factory=dict)
    finished: FinishedRequests = field(default_factory=FinishedRequests)
    in_flight: int = 0
    degraded: dict[str, str] = field(default_factory=dict)
    details: dict[str, Callable[[], object]] = field(default_factory=dict)
    looks: list[Callable[[], None]] = field(default_factory=list)
    rates: Rates | None = None
    hang_up: Callable[[], None] = lambda: None
    _lifespans: list[Lifespan] = field(default_factory=list)

    @classmethod
    def from_settings(cls, settings: ServeSettings, store: Store | None = None) -> Runtime:
        """Load artifacts, keys and store.

        Raises
        ------
        StopperError
            Whatever is wrong with them, with the remedy.

        """
        keys = KeyRing(file=settings.keys_file)
        catalog = Catalog(settings.artifacts, settings.alpha, settings.artifact_root)
        held = make_store(settings) if store is None else store
        metrics = Metrics()
        bound = settings.limits.requests_per_minute
        rates = None
        if bound is not None:
            rates = Rates(bound, metrics, settings.redis, settings.redis_prefix)
        return cls(settings, held, catalog, Board(held), metrics, keys, rates=rates)

    @property
    def ready(self) -> bool:
        """Whether requests are to be sent here."""
        return not self.draining and not self.unready

    def look(self) -> None:
        """Set the gauges to what is now."""
        for look in self.looks:
            look()

    def while_running(self, lifespan: Lifespan) -> None:
        """Enter `lifespan()` when the sidecar starts and leave it when it ends, in order."""
        self._lifespans.append(lifespan)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run everything that runs beside the requests."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.store.close)
            if self.rates is not None:
                stack.push_async_callback(self.rates.close)
            await stack.enter_async_context(self.board.refreshing())
            await stack.enter_async_context(
                watching(self.store, self.degraded, self.metrics.store_up)
            )
            for lifespan in self._lifespans:
                await stack.enter_async_context(lifespan())
            yield


def make_store(settings: ServeSettings) -> Store:
    """Return the store that the settings ask for.

    Raises
    ------
    InputError
        If the URL of Redis cannot be understood; whether it is there shows later.

    """
    if settings.redis is not None:
        from stopper.service.store.redis import RedisStore

        return RedisStore(
            settings.redis, settings.redis_prefix, settings.trace_ttl_s, settings.redis_timeout_s
        )
    return MemoryStore(settings.trace_ttl_s, settings.most_traces)
