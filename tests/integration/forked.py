"""Programs that start in a blink: a server that has imported everything forks one for each call.

The commands of the documents are run by bash as they are written. `stopper` and `python` are on its
PATH as small clients, which hand arguments, folder, environment and open files to the server; the
fork of it that runs them is a process of its own with its own standard streams and exit status.

Run as ``python -m tests.integration.forked SOCKET``.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

WARM = (
    "stopper.cli", "stopper.commands.compare", "calibration.evaluate", "calibration.page",
    "calibration.plots", "calibration.traces", "stopper.training", "stopper.service.app",
    "stopper.service.launch", "stopper.scripted", "sklearn.linear_model", "sklearn.metrics",
    "sklearn.neural_network", "mapie.classification", "matplotlib.pyplot", "pyarrow.parquet",
    "rich.progress", "rich.table", "spacy", "tokenizers", "torch", "uvicorn",
    "vllm.engine.arg_utils",
    "transformers.models.auto.modeling_auto", "probes.sentence_encoder",
    "stopper.relevance.loading",
    "adapters.transformers.comparison", "adapters.transformers.recording",
)  # fmt: skip
"""Imported before the first fork."""

CLIENT = """#!{python} -SE
import array, json, os, signal, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
call = json.dumps([{program!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(connection, [len(call).to_bytes(4, "big")], [0, 1, 2])
connection.sendall(call)
told = connection.makefile("rb")
child = int(told.readline())
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: os.kill(child, number))
sys.exit(int(told.readline() or 1))
"""


class Forked:
    """The server, with a folder of its clients to put on PATH."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.programs = folder
        address = str(folder / "socket")
        for program in ("stopper", "python"):
            client = folder / program
            text = CLIENT.format(python=sys.executable, address=address, program=program)
            client.write_text(text, encoding="utf-8")
            client.chmod(0o755)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.forked", address],
            cwd=Path(__file__).resolve().parents[2],
        )
        while not Path(address).exists():
            assert self._process.poll() is None, "the server of forks has ended"
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server; programs that still run end by themselves or by whoever began them."""
        self._process.terminate()
        self._process.wait(30)


def serve(address: str) -> None:
    """Answer one call after the other, each in a fork."""
    for name in WARM:
        importlib.import_module(name)
    listener = socket.socket(socket.AF_UNIX)
    made = f"{address}.new"
    listener.bind(made)
    listener.listen(64)
    Path(made).rename(address)  # there once it is ready
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are not waited for
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _keep(connection)
        connection.close()


def _keep(connection: socket.socket) -> None:
    """Fork the program, tell its number, wait for it, tell its exit status."""
    header, streams, _, _ = socket.recv_fds(connection, 4, 3)
    size, body = int.from_bytes(header, "big"), b""
    while len(body) < size:
        body += connection.recv(size - len(body))
    program, arguments, folder, environment = json.loads(body)
    child = os.fork()
    if child == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        status = _run(program, arguments)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)
    for stream in streams:
        os.close(stream)
    connection.sendall(f"{child}\n".encode())
    _, ended = os.waitpid(child, 0)
    connection.sendall(f"{os.waitstatus_to_exitcode(ended) % 256}\n".encode())
    os._exit(0)


def _run(program: str, arguments: list[str]) -> int:
    sys.argv = [program, *arguments]
    try:
        if program == "stopper":
            from stopper.cli import main

            main(arguments)
        _python(arguments)
    except SystemExit as ending:
        if isinstance(ending.code, str):
            sys.stderr.write(ending.code + "\n")
            return 1
        return ending.code or 0
    except BaseException:  # as the interpreter's own end
        traceback.print_exc()
        return 1
    return 0


def _python(arguments: list[str]) -> None:
    first, *rest = arguments
    sys.path.insert(0, "")
    if first == "-c":
        sys.argv = ["-c", *rest[1:]]
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(rest[0], "<string>", "exec"), names)
    elif first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path[0] = str(Path(first).resolve().parent)
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    serve(sys.argv[1])
