"""Stop decisions against a bare route of the same server, which reads the same body.

Run: ``python benchmarks/decisions.py [--rounds 9] [--seconds 0.5] [--probe linear] [--log info]``

The sidecar runs in a process of its own, as `stopper serve` runs it, with one route more: it reads
the body, behind the same middleware and the same API key, and answers a constant. A client that
does little but copy bytes keeps several connections busy. Rounds on the two routes alternate; each
request brings new cues of 4,608 float16 numbers. The artifact is synthetic.

Prints JSON. Per case, medians over the rounds: events per second of wall-clock on either route,
microseconds of the server's CPU per request, and two ratios, `wall` and `cpu` (bare over decided
microseconds; the one that counts where the client is the limit). The exit code is 1 where a `cpu`
ratio is below 0.8.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from fastapi import Depends, Request
from starlette.responses import Response

from calibration.risk import threshold
from probes.network import Probe
from probes.spec import ProbeSpec
from stopper.artifact import Artifact, CalibrationRecord, Manifest
from stopper.service.app import create_app
from stopper.service.auth import require
from stopper.service.key_file import new_key, write_keys
from stopper.service.server import Server, address, bind, configure
from stopper.service.settings import ServeSettings

AIM = 0.8
LAYERS, HIDDEN = (9, 16, 28), 1536
WIDTH = len(LAYERS) * HIDDEN
ROUTE, BARE = "/v1/stop-decisions", "/v1/bare"
CONNECTIONS = 8
CUES = 50
"""Of one trace."""


def artifact(kind: str) -> Artifact:
    rng = np.random.default_rng(0)
    spec = ProbeSpec(
        kind=kind,
        layers=LAYERS,
        hidden_size=HIDDEN,
        hidden_dims=(256, 64) if kind == "mlp" else (),
        shaping="rise",
    )
    layers = [
        (rng.normal(size=(out, into)).astype("f4") / into**0.5, np.zeros(out, "f4"))
        for into, out in zip(spec.widths, spec.widths[1:], strict=False)
    ]
    worst = np.sort(rng.normal(size=400)).astype(np.float32)
    record = CalibrationRecord(
        method="ltt",
        loss="disagree",
        alpha=0.1,
        confidence=0.9,
        n_units=len(worst),
        n_traces=len(worst),
        n_cues=10 * len(worst),
        threshold=threshold(worst, 0.1, "ltt", 0.9),
        promise="synthetic",
    )
    manifest = Manifest(
        created=datetime.now(UTC),
        stopper_version="0",
        probe=spec,
        calibration=record,
        training={"label": "none"},
    )
    return Artifact(manifest, probe=Probe(spec, layers), worst_scores=worst)


class WithBare:
    """The application with the bare route."""

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings

    def __call__(self) -> object:
        app = create_app(self._settings)
        constant = msgspec.json.encode({"decisions": []})

        @app.post(BARE)
        async def bare(request: Request, _: Annotated[str, Depends(require("decide"))]) -> Response:
            await request.body()
            return Response(constant, media_type="application/json")

        return app


def serve(folder: Path, log: str) -> None:
    """Be the server process: print the address and serve."""
    from stopper.service import logs

    settings = ServeSettings(
        artifacts=(f"synthetic={folder}",), port=0, log_level=log, keys_file=folder / "keys"
    )
    logs.configure(settings)
    bound = bind(settings)
    config = configure(settings)
    config.app = WithBare(settings)
    Server(config, lambda: print(address(bound), flush=True)).run([bound])


@dataclass
class Body:
    """One body, made new in place: another trace every `CUES` requests, another position always."""

    content: bytearray
    names: list[int]
    positions: list[int]
    text: bool
    made: int = 0

    @classmethod
    def build(cls, form: str, batch: int, connection: int) -> Body:
        rng = np.random.default_rng([connection, batch])
        states = rng.normal(size=(batch, WIDTH)).astype("<f2")
        events = [
            {
                "request_id": f"{form}-{batch}-{connection}-{index}-@@@@@@@@",
                "model": "synthetic",
                "position": 123_456_789,
                "hidden_state": {"data": state.tobytes(), "dtype": "float16", "shape": [WIDTH]},
                "alpha": 0.1,
            }
            for index, state in enumerate(states)
        ]
        value = events[0] if batch == 1 else {"events": events}
        codec = msgspec.json if form == "json" else msgspec.msgpack
        content = bytearray(codec.encode(value))
        mark = b"123456789" if form == "json" else b"\xce" + struct.pack(">I", 123_456_789)
        names = [found - 8 for found in places(content, b"@@@@@@@@", 8)]
        positions = [found - len(mark) for found in places(content, mark, len(mark))]
        assert len(names) == len(positions) == batch
        return cls(content, names, positions, form == "json")

    def renew(self) -> bytearray:
        number = b"%08d" % (self.made // CUES)
        position = 200_000_000 + self.made
        told = b"%09d" % position if self.text else b"\xce" + struct.pack(">I", position)
        for at in self.names:
            self.content[at : at + 8] = number
        for at in self.positions:
            self.content[at : at + len(told)] = told
        self.made += 1
        return self.content


def places(content: bytearray, mark: bytes, size: int) -> list[int]:
    """Return where each mark ends."""
    found, at = [], content.find(mark)
    while at >= 0:
        found.append(at + size)
        at = content.find(mark, at + size)
    return found


class Client:
    """Keeps connections busy with one kind of body."""

    def __init__(self, host: tuple[str, int], key: str, form: str, batch: int) -> None:
        self._kind = "application/json" if form == "json" else "application/msgpack"
        self._bodies = [Body.build(form, batch, number) for number in range(CONNECTIONS)]
        self._sockets = [socket.create_connection(host) for _ in range(CONNECTIONS)]
        for one in self._sockets:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        size = len(self._bodies[0].content)
        self._heads = {
            path: (
                f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n"
                f"Content-Type: {self._kind}\r\nContent-Length: {size}\r\n\r\n"
            ).encode()
            for path in (ROUTE, BARE)
        }

    def run(self, path: str, seconds: float, pid: int) -> tuple[int, float, float]:
        """Return requests, seconds of wall-clock, and seconds of the server's CPU."""
        head = self._heads[path]
        with selectors.DefaultSelector() as ready:
            for one, body in zip(self._sockets, self._bodies, strict=True):
                ready.register(one, selectors.EVENT_READ, body)
            done, spent, begun = 0, cpu(pid), time.perf_counter()
            for one, body in zip(self._sockets, self._bodies, strict=True):
                one.sendall(head)
                one.sendall(body.renew())
            under_way, end = CONNECTIONS, begun + seconds
            while under_way:
                for key, _ in ready.select():
                    answer(key.fileobj)
                    done += 1
                    if time.perf_counter() < end:
                        key.fileobj.sendall(head)
                        key.fileobj.sendall(key.data.renew())
                    else:
                        under_way -= 1
            return done, time.perf_counter() - begun, cpu(pid) - spent


def answer(connection: socket.socket) -> None:
    """Read one whole answer, which must be a good one."""
    found = connection.recv(1 << 18)
    assert found.startswith(b"HTTP/1.1 200"), found[:2000]
    head, mark, rest = found.partition(b"\r\n\r\n")
    while not mark:
        found += connection.recv(1 << 18)
        head, mark, rest = found.partition(b"\r\n\r\n")
    left = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]) - len(rest)
    while left > 0:
        left -= len(connection.recv(1 << 18))


def cpu(pid: int) -> float:
    """Return the seconds that all threads of a process have run."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def measure(
    host: tuple[str, int], key: str, pid: int, options: argparse.Namespace
) -> dict[str, object]:
    found: dict[str, object] = {}
    for form in ("msgpack", "json"):
        for batch in (1, 32):
            client = Client(host, key, form, batch)
            for path in (ROUTE, BARE):
                client.run(path, options.seconds, pid)
            wall: dict[str, list[float]] = {ROUTE: [], BARE: []}
            busy: dict[str, list[float]] = {ROUTE: [], BARE: []}
            for _ in range(options.rounds):
                for path in (ROUTE, BARE):
                    requests, seconds, spent = client.run(path, options.seconds, pid)
                    wall[path].append(batch * requests / seconds)
                    busy[path].append(1e6 * spent / requests)
            decided, bare = (statistics.median(wall[path]) for path in (ROUTE, BARE))
            cost, base = (statistics.median(busy[path]) for path in (ROUTE, BARE))
            found[f"{form}, batch {batch}"] = {
                "decisions_per_s": round(decided),
                "bare_events_per_s": round(bare),
                "cpu_us": round(cost, 1),
                "bare_cpu_us": round(base, 1),
                "wall": round(decided / bare, 3),
                "cpu": round(base / cost, 3),
            }
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--probe", choices=("linear", "mlp"), default="linear")
    parser.add_argument("--log", choices=("info", "warning"), default="info")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve, options.log)
        return 0
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "artifact"
        artifact(options.probe).save(folder)
        key, kept = new_key("benchmark", ["decide"])
        write_keys(folder / "keys", (kept,))
        command = [sys.executable, __file__, "--serve", str(folder), "--log", options.log]
        with (
            (Path(root) / "log").open("wb") as log,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as server,
        ):
            try:
                assert server.stdout is not None
                line = server.stdout.readline().decode()
                assert line, (Path(root) / "log").read_text()
                name, _, port = line.strip().removeprefix("http://").rpartition(":")
                found = measure((name, int(port)), key, server.pid, options)
            except OSError:
                print((Path(root) / "log").read_text()[-2000:], file=sys.stderr)
                raise
            finally:
                server.terminate()
    print(json.dumps({"probe": options.probe, "log": options.log, "cases": found}, indent=2))
    return 0 if all(case["cpu"] >= AIM for case in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
