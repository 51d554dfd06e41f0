"""A reader who types what a page says: one folder, one set of ports, servers that go on."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.documents import one_line, words_of
from tests.servers import free_port

PORTS = (6379, 8000, 8001, 8080)
PATIENCE_S = 300.0
KEYS = {"KEY": "key", "READ_KEY": "key", "ADMIN_KEY": "key"}
"""The documents' names for API keys; a sidecar without keys takes any."""


class Reader:
    """Runs commands, as they are written but for names and ports.

    Parameters
    ----------
    folder
        Where they run.
    programs
        Folder that comes first on PATH.
    names
        What stands for a reader's own names.
    redis
        Port of a Redis in place of 6379.

    """

    def __init__(self, folder: Path, programs: Path, names: dict[str, str], redis: int) -> None:
        self.folder, self.names = folder, names
        self.ports = {port: free_port() for port in PORTS} | {6379: redis}
        self._assigned: list[str] = []
        self._servers: dict[int, subprocess.Popen[bytes]] = {}
        self._env = {
            **os.environ,
            **KEYS,
            "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "STOPPER_PORT": str(self.ports[8080]),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "100",
        }
        for file in (folder / "deploy").rglob("*.toml"):
            file.write_text(self.put_in(file.read_text()))

    def put_in(self, text: str) -> str:
        """Return a text with our names and ports in place of the documents'."""
        for name, ours in self.names.items():
            text = re.sub(rf"(?<![\w./]){re.escape(name)}(?![\w./])", ours, text)
        places = "|".join(map(str, PORTS))
        return re.sub(
            rf"((?:127\.0\.0\.1|localhost):|--port |\bport = )({places})\b",
            lambda found: f"{found[1]}{self.ports[int(found[2])]}",
            text,
        )

    def run(self, command: str, ends: int = 0) -> None:
        """Run a command to its end; of a server to where it answers."""
        text = self.put_in(command)
        if re.fullmatch(r"\w+=\S.*", one_line(command)) and not any(words_of(command, "stopper")):
            with contextlib.suppress(StopIteration):
                next(words_of(command, "vllm"))
            self._assigned.append(text)
            return
        port = self._served_at(text)
        script = "\n".join((*self._assigned, text))
        log = self.folder / ".said"
        with log.open("wb") as said:
            process = subprocess.Popen(
                ["bash", "-eu", "-c", script],
                cwd=self.folder, env=self._env, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                start_new_session=True,
            )  # fmt: skip
        try:
            if port is None:
                status = process.wait(PATIENCE_S)
            else:
                self._servers[port] = process
                status = self._begun(process, port)
        except subprocess.TimeoutExpired:
            _end(process)
            raise
        told = log.read_text(errors="replace")[-4000:]
        assert status == ends, f"{one_line(command)}\nended with {status}, not {ends}:\n{told}"

    def stop(self) -> None:
        """End the servers."""
        for process in self._servers.values():
            _end(process)

    def _served_at(self, text: str) -> int | None:
        """Return the port of the server that a command starts; the one before it there ends."""
        for words in words_of(text, "stopper"):
            ends = {"--check", "--show", "--openapi", "--help"} & set(words)
            if words[0] in ("serve", "scripted") and not ends:
                default = self.ports[8080] if words[0] == "serve" else 8000
                port = int(words[words.index("--port") + 1]) if "--port" in words else default
                if port in self._servers:
                    _end(self._servers.pop(port))
                return port
        return None

    def _begun(self, process: subprocess.Popen[bytes], port: int) -> int:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                return process.returncode or -1
            for path in ("livez", "health"):
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"http://127.0.0.1:{port}/{path}", timeout=5).status_code == 200:
                        return 0
            time.sleep(0.05)
        return -2


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
