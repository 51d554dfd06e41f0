"""The server process: uvicorn, with a drain on SIGTERM and fresh artifacts on SIGHUP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE

from stopper.errors import InputError, StopperError
from stopper.service import logs
from stopper.service.app import create_app
from stopper.service.protocol import GuardedProtocol
from stopper.service.runtime import Runtime
from stopper.service.settings import ServeSettings

logger = logging.getLogger(__name__)

CUT_S = 1
"""What still runs after the drain's time gets so long, in seconds, before it is cut."""


class Application:
    """Makes the application in the process that serves it; can be sent to a worker."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings

    def __call__(self) -> FastAPI:
        """Build it, with the logs in their format."""
        logs.configure(self.settings)
        try:
            return create_app(self.settings)
        except StopperError as error:
            logger.critical("cannot start: %s", error)
            sys.exit(STARTUP_FAILURE)


def configure(settings: ServeSettings) -> uvicorn.Config:
    """Return uvicorn's configuration."""
    return uvicorn.Config(
        Application(settings),
        factory=True,
        http=partial(GuardedProtocol, header_s=settings.limits.header_s),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=CUT_S,
        workers=settings.workers,
    )


def bind(settings: ServeSettings) -> socket.socket:
    """Bind the address.

    Raises
    ------
    InputError
        If it is taken or not ours.

    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((settings.host, settings.port))
    except OSError as error:
        found.close()
        raise InputError(
            f"{settings.host}:{settings.port}: {error.strerror or error}; choose another "
            "by --host and --port"
        ) from None
    found.set_inheritable(True)
    return found


def address(bound: socket.socket) -> str:
    """Return the URL of a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """One process.

    SIGTERM or SIGINT: `/readyz` turns 503, requests that run may end (`limits.drain_s`), then the
    process ends with status 0. A second one ends it at once. SIGHUP reads the artifacts again.

    Parameters
    ----------
    ready
        Called once requests are answered.
    worker
        Leaves SIGINT to the parent: a terminal sends it to both.

    """

    def __init__(
        self, config: uvicorn.Config, ready: Callable[[], None] | None = None, worker: bool = False
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._worker = worker
        self._drain: asyncio.Task[None] | None = None

    @property
    def runtime(self) -> Runtime:
        """The application's, once it is loaded."""
        found: Runtime = self.config.loaded_app.state.runtime
        return found

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone until `startup` can handle them."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to answer."""
        await super().startup(sockets)
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, self.end)
            if self._worker:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            else:
                loop.add_signal_handler(signal.SIGINT, self.end)
            loop.add_signal_handler(signal.SIGHUP, self.runtime.hang_up)
        if self._ready is not None:
            self._ready()

    async def on_tick(self, counter: int) -> bool:
        """Look ten times a second whether to end; a worker ends where its parent has died."""
        parent = multiprocessing.parent_process() if self._worker else None
        if parent is not None and self._drain is None and os.getppid() != parent.pid:
            logger.error("the parent process is gone")
            self.end()
        return await super().on_tick(counter)

    def end(self) -> None:
        """End after what runs; when called again, at once."""
        if self._drain is not None:
            logger.warning("ends at once")
            self._drain.cancel()
            self.force_exit = self.should_exit = True
            return
        self.runtime.draining = True
        self._drain = asyncio.get_running_loop().create_task(self._drained())

    async def _drained(self) -> None:
        runtime = self.runtime
        loop = asyncio.get_running_loop()
        patience = runtime.settings.limits.drain_s
        logger.warning("draining: %d requests run, at most %g s", runtime.in_flight, patience)
        deadline = loop.time() + patience
        while runtime.in_flight and loop.time() < deadline:
            await asyncio.sleep(0.05)
        if runtime.in_flight:
            logger.error("%d requests are cut: they outlasted limits.drain_s", runtime.in_flight)
        self.should_exit = True
