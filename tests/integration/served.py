"""Real servers in processes of their own: `vllm serve` with stopper in it, and `stopper serve`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from runs import ARTIFACT, MODEL, environment

from tests.servers import free_port

PROGRAMS = Path(sys.executable).parent


class Program:
    """A server process with its log.

    Parameters
    ----------
    command, env
        What to run.
    url
        Where it will answer; `probe` is the path that says it is ready.

    """

    def __init__(
        self, command: list[str], env: dict[str, str], url: str, probe: str, folder: Path
    ) -> None:
        self.url = url
        self._command, self._env, self._probe = command, env, probe
        self.log = folder / f"{Path(command[0]).name}-{url.rpartition(':')[2]}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, patience_s: float = 400) -> None:
        """Start it and wait until it is ready."""
        with self.log.open("ab") as log:
            # A group of its own: vLLM's engine processes end with it.
            self.process = subprocess.Popen(
                self._command, env=self._env, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + patience_s
        while True:
            assert self.process.poll() is None, self.log.read_text()[-6000:]
            assert time.monotonic() < deadline, self.log.read_text()[-6000:]
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}{self._probe}", timeout=2).status_code == 200:
                    return
            time.sleep(0.2)

    def kill(self) -> None:
        """End it and all its children by SIGKILL, as a crash would."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)
            self.process = None

    def stop(self) -> None:
        """End it in good order."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(60)
            finally:
                self.kill()


@contextlib.contextmanager
def vllm_server(folder: Path, *options: str, **stopper: Any) -> Iterator[Program]:
    """Serve the tiny reasoner as "reasoner"; `stopper` are the plugin's settings."""
    port = free_port()
    command = [
        str(PROGRAMS / "vllm"), "serve", str(MODEL), "--served-model-name", "reasoner",
        "--dtype", "float32", "--enforce-eager", "--host", "127.0.0.1", "--port", str(port),
        "--reasoning-parser", "deepseek_r1", "--additional-config",
        json.dumps({"stopper": {"artifact": str(ARTIFACT), **stopper}}), *options,
    ]  # fmt: skip
    env = {**environment(), "VLLM_PLUGINS": "stopper"}
    program = Program(command, env, f"http://127.0.0.1:{port}", "/health", folder)
    try:
        program.start()
        yield program
    finally:
        program.stop()


@contextlib.contextmanager
def sidecar(folder: Path, *options: str, **variables: str) -> Iterator[Program]:
    """Run `stopper serve`; `variables` are settings by their variables' names."""
    port = free_port()
    command = [str(PROGRAMS / "stopper"), "serve", "--port", str(port), *options]
    program = Program(
        command, {**os.environ, **variables}, f"http://127.0.0.1:{port}", "/readyz", folder
    )
    try:
        program.start(60)
        yield program
    finally:
        program.stop()
