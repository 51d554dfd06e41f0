"""`stopper serve` as operators run it: processes, signals, workers, files that change."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from stopper import scripted
from stopper.service.key_file import new_key, write_keys
from tests.servers import redis_server

ROOT = Path(__file__).resolve().parents[2]
ARTIFACT = ROOT / "examples" / "tiny_reasoner" / "artifact"
MODEL = "tiny"
PATIENCE_S = 60.0
FOR_A_MINUTE = "Take your time."


class Sidecar:
    """A `stopper serve` process."""

    def __init__(self, *options: str, artifact: Path = ARTIFACT, **variables: str) -> None:
        command = [
            sys.executable, "-m", "stopper", "serve", "--artifact", f"{MODEL}={artifact}",
            "--port", "0", *options,
        ]  # fmt: skip
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("STOPPER_")}
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=inherited | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._log: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        line = self.process.stdout.readline() if readable else ""
        found = re.search(r"ready on (http://\S+):", line)
        assert found is not None, f"{line!r} {self.log}"
        self.url = found[1]
        # A connection for each request: with several workers, another one may answer.
        self._client = httpx.Client(
            base_url=self.url, verify=False, limits=httpx.Limits(max_keepalive_connections=0)
        )

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._log.append(line)

    @property
    def log(self) -> str:
        return "".join(self._log)

    def send(self, which: signal.Signals) -> None:
        self.process.send_signal(which)

    def ended(self, within_s: float = PATIENCE_S) -> int:
        status = self.process.wait(within_s)
        self._client.close()
        self._reader.join(PATIENCE_S)
        return status

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self._client.get(path, **options)

    def post(self, path: str, body: object, **options: Any) -> httpx.Response:
        return self._client.post(path, json=body, **options)


@contextlib.contextmanager
def sidecar(*options: str, **more: Any) -> Iterator[Sidecar]:
    started = Sidecar(*options, **more)
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.process.pid, signal.SIGKILL)  # workers of one that was killed, too
        started.ended()
        for stream in (started.process.stdout, started.process.stderr):
            assert stream is not None
            stream.close()


def until(holds: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture(scope="module")
def slow_engine() -> Iterator[str]:
    """Run an engine that streams for about two seconds, or a minute where it is asked to."""
    script = scripted.Script(
        model="slow",
        token_delay_ms=20.0,
        traces=(
            scripted.Trace(
                name="long", pieces=(scripted.Piece(text="and so on " * 25),), answer="42"
            ),
            scripted.Trace(
                name="longest",
                match=FOR_A_MINUTE,
                pieces=(scripted.Piece(text="and so on " * 100),),
                answer="42",
                token_delay_ms=200.0,
            ),
        ),
    )
    with scripted.serving(script) as url:
        yield url


class Streaming(threading.Thread):
    """A client that streams one chat completion."""

    def __init__(self, url: str, prompt: str = "How long?") -> None:
        super().__init__(daemon=True)
        self.url = url
        self.prompt = prompt
        self.begun = threading.Event()
        self.body = b""
        self.fault: httpx.HTTPError | None = None
        self.start()

    def run(self) -> None:
        body = {
            "model": "slow",
            "stream": True,
            "messages": [{"role": "user", "content": self.prompt}],
        }
        try:
            with httpx.stream("POST", f"{self.url}/v1/chat/completions", json=body) as answer:
                for piece in answer.iter_bytes():
                    self.body += piece
                    self.begun.set()
        except httpx.HTTPError as error:
            self.fault = error


def test_on_sigterm_streams_end_whole_and_nothing_new_begins(slow_engine: str) -> None:
    with sidecar("--upstream", slow_engine) as server:
        streams = [Streaming(server.url) for _ in range(3)]
        assert all(stream.begun.wait(PATIENCE_S) for stream in streams)
        server.send(signal.SIGTERM)
        until(lambda: server.get("/readyz").status_code == 503, "/readyz tells of the drain")
        assert server.get("/readyz").json()["draining"] is True
        assert server.get("/livez").status_code == 200
        refused = server.get("/v1/artifacts")
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        for stream in streams:
            stream.join(PATIENCE_S)
            assert stream.fault is None
            assert stream.body.rstrip().endswith(b"data: [DONE]")
        assert server.ended() == 0
        assert "draining: 3 requests run" in server.log
        assert "How long?" not in server.log


def test_what_outlasts_the_drain_is_cut(slow_engine: str) -> None:
    with sidecar("--upstream", slow_engine, STOPPER_LIMITS__DRAIN_S="0.2") as server:
        stream = Streaming(server.url, FOR_A_MINUTE)
        assert stream.begun.wait(PATIENCE_S)
        begin = time.monotonic()
        server.send(signal.SIGTERM)
        assert server.ended() == 0
        assert time.monotonic() - begin < 20
        stream.join(PATIENCE_S)
        assert not stream.body.rstrip().endswith(b"data: [DONE]")
        assert "1 requests are cut" in server.log


def test_a_second_signal_ends_it_at_once(slow_engine: str) -> None:
    with sidecar("--upstream", slow_engine) as server:
        stream = Streaming(server.url, FOR_A_MINUTE)
        assert stream.begun.wait(PATIENCE_S)
        server.send(signal.SIGINT)
        until(lambda: server.get("/readyz").status_code == 503, "/readyz tells of the drain")
        begin = time.monotonic()
        server.send(signal.SIGTERM)
        server.ended()
        assert time.monotonic() - begin < 20
        assert "ends at once" in server.log


def test_keys_and_artifacts_that_change_are_read_again(tmp_path: Path) -> None:
    file, folder = tmp_path / "keys.toml", tmp_path / "artifact"
    shutil.copytree(ARTIFACT, folder)
    (first, kept), (second, other) = new_key("first", ["admin"]), new_key("second", ["read"])
    write_keys(file, [kept])
    with sidecar("--keys-file", str(file), artifact=folder) as server:

        def asks(key: str) -> int:
            answer = server.get("/v1/artifacts", headers={"Authorization": f"Bearer {key}"})
            return answer.status_code

        assert (asks(first), asks(second)) == (200, 401)
        write_keys(file, [other])
        until(lambda: (asks(first), asks(second)) == (401, 200), "the new keys", 5)
        (folder / "manifest.json").write_text("{}")
        server.send(signal.SIGHUP)
        until(lambda: "the active artifact stays" in server.log, "the log tells of it", 5)
        assert asks(second) == 200
        assert first not in server.log
        assert '"key":"second"' in server.log
        server.send(signal.SIGTERM)
        assert server.ended() == 0


def total(server: Sidecar, name: str) -> float:
    text = server.get("/metrics").text
    found = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


def test_two_workers_add_their_metrics_up_and_one_that_dies_is_replaced() -> None:
    with redis_server() as redis, sidecar("--workers", "2", "--redis", redis.url) as server:
        pids: set[int] = set()

        def ask(number: int) -> None:
            event = {
                "request_id": f"r{number}",
                "model": MODEL,
                "position": 1,
                "hidden_state": {"data": "AAA=", "dtype": "float16", "shape": [1]},
            }
            assert server.post("/v1/stop-decisions", event).status_code == 422
            switched = {"on": bool(number % 2), "why": ""}
            assert server.post("/v1/kill-switch", switched).status_code == 200

        for number in range(40):
            ask(number)
        # Whichever worker is asked, the figures are those of both.
        until(lambda: total(server, "stopper_decisions_total") == 40, "40 decisions", 5)
        until(lambda: total(server, "stopper_kill_switch") == 1, "the switch", 5)
        served = [line for line in server._log if '"/v1/kill-switch"' in line]
        assert len(served) == 40
        pids = children(server.process.pid)
        assert len(pids) == 2
        os.kill(min(pids), signal.SIGKILL)
        until(lambda: len(children(server.process.pid) - pids) == 1, "another worker")
        until(lambda: server.get("/livez").status_code == 200, "an answer")
        assert total(server, "stopper_decisions_total") == 40
        server.send(signal.SIGTERM)
        assert server.ended() == 0


def children(pid: int) -> set[int]:
    """Return the workers of a parent process, of Linux's own list."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {
        int(child) for child in listed if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()
    }
