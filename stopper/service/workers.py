"""Several worker processes on one socket, kept alive by their parent."""

from __future__ import annotations

import functools
import logging
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable

import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from stopper.service.metrics import WORKERS_FOLDER
from stopper.service.server import Server

logger = logging.getLogger(__name__)

START_S = 120.0


class _Worker(Process):
    @functools.cached_property
    def server(self) -> Server:
        return Server(self.config, worker=True)


class Workers(Multiprocess):
    """Starts workers, and others where one died; passes signals on.

    Parameters
    ----------
    ready
        Called once all of them answer.

    """

    def __init__(
        self, config: uvicorn.Config, sockets: list[socket.socket], ready: Callable[[], None]
    ) -> None:
        super().__init__(config, sockets)
        self._ready = ready

    def init_processes(self) -> None:
        """Start all workers and wait for them."""
        for _ in range(self.processes_num):
            worker = _Worker(self.config, self.sockets)
            worker.start()
            self.processes.append(worker)
        if all(worker.wait_until_ready(START_S, self.should_exit) for worker in self.processes):
            self._ready()

    def keep_subprocess_alive(self) -> None:
        """Start another worker where one died or hangs."""
        for index, worker in enumerate(self.processes):
            if self.should_exit.is_set() or worker.is_alive(
                timeout=self.config.timeout_worker_healthcheck
            ):
                continue
            worker.kill()
            worker.join()
            if worker.exitcode == uvicorn.config.STARTUP_FAILURE:
                logger.critical("a worker cannot start, all end")
                self.should_exit.set()
                return
            if worker.pid is not None:
                mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
            logger.error("worker %s died, another one starts", worker.pid)
            fresh = _Worker(self.config, self.sockets)
            fresh.start()
            self.processes[index] = fresh

    def handle_hup(self) -> None:
        """Let the workers read the artifacts again."""
        for worker in self.processes:
            if worker.pid is not None and worker.exitcode is None:
                os.kill(worker.pid, signal.SIGHUP)

    def join_all(self) -> None:
        """Wait for the workers; a further signal ends them at once."""
        while any(worker.process.is_alive() for worker in self.processes):
            if self.signal_queue:
                self.signal_queue.clear()
                for worker in self.processes:
                    if worker.process.is_alive() and worker.pid is not None:
                        os.kill(worker.pid, signal.SIGTERM)
            time.sleep(0.05)


def run(config: uvicorn.Config, bound: socket.socket, ready: Callable[[], None]) -> None:
    """Serve with several workers; their metrics add up in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="stopper-metrics-") as folder:
        os.environ[WORKERS_FOLDER] = folder
        Workers(config, [bound], ready).run()
