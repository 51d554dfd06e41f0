"""Decode throughput in remote mode, with a sidecar that is dead, silent, slow, or well.

    python benchmarks/remote.py [--json FILE] [--rounds 12] [--tokens 64] [--mlp 8192]

Engines of the tiny reasoner are started one after the other: without stopper, remote, local,
without stopper; nothing is ever stopped. Its MLP is widened by zeros, which changes no output and
makes a step about as long as that of a small real model; `--mlp 512` leaves it as it is. Under the
remote engine four sidecars take turns on one port: none at all (the connection is refused), one
that accepts and never answers, one that answers after 80 of the 100 milliseconds allowed, and
`stopper serve`. Every round is run with the requests watched and with stopper off for them, in
turns.

`watching_ratio` is the throughput watched against off in one engine, the median over pairs that
follow each other at once; `cpu_ratio` is the same by CPU seconds of the engine's processes, which
other work on the machine disturbs less, and which tell nothing of waiting. `throughput_ratio` is
against the engine without stopper, `against_local` against the local mode, both by medians, over
processes that come one after the other. `events` and `answered` tell that the sidecar was what it
was meant to be.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from engine import HOME, never_stopping, prompts, seconds

KINDS = ("dead", "silent", "slow", "real")
DEADLINE_MS = 100
SLOW_S = 0.08
HOST = "127.0.0.1"


def stand_in(kind: str, port: int) -> None:
    """Be a sidecar that is silent or slow."""
    from msgspec import msgpack

    from stopper.wire import Decision, DecisionBatch, Decisions

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            data = b""
            while part := connection.recv(1 << 16):
                data += part
                head, found, body = data.partition(b"\r\n\r\n")
                length = [int(h[15:]) for h in head.lower().split(b"\r\n") if h[:15] == LENGTH]
                if kind == "silent" or not found or len(body) < length[0]:
                    continue
                data = b""
                time.sleep(SLOW_S)
                events = msgpack.decode(body, type=DecisionBatch).events
                answer = msgpack.encode(
                    Decisions(
                        [
                            Decision(e.request_id, e.position, False, "score_below_threshold",
                                     0.0, 1e9, e.alpha, None)
                            for e in events
                        ]
                    )
                )  # fmt: skip
                start = f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n\r\n"
                connection.sendall(start.encode() + answer)

    with socket.create_server((HOST, port)) as server:
        print("up", flush=True)
        while True:
            threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()


LENGTH = b"content-length:"


@contextlib.contextmanager
def sidecar(kind: str, port: int, artifact: Path) -> Iterator[None]:
    """Run one of the four, in a process of its own."""
    if kind == "dead":
        yield
        return
    if kind == "real":
        command = [sys.executable, "-m", "stopper", "serve", "--artifact", str(artifact)]
        command += ["--port", str(port), "--log-level", "error"]
    else:
        command = [sys.executable, __file__, "--stand-in", kind, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        if kind == "real":
            _wait(f"http://{HOST}:{port}/readyz")
        else:
            assert process.stdout is not None
            process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()


def _wait(url: str) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                answer.read()
            return
        except OSError:
            assert time.monotonic() < end, "the sidecar does not come up"
            time.sleep(0.1)


def widened(folder: Path, width: int) -> Path:
    """Copy the model with an MLP of `width`, the new neurons all zero."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(HOME / "model", folder)
    config = json.loads((folder / "config.json").read_text())
    more = width - config["intermediate_size"]
    config["intermediate_size"] = width
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if ".mlp." in name:
            pad = (0, more) if "down_proj" in name else (0, 0, 0, more)
            tensors[name] = torch.nn.functional.pad(tensor, pad).contiguous()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def engine(kind: str, model: Path, artifact: Path, port: int) -> Any:
    """Start vLLM without stopper, with a local one, or with a remote one."""
    from vllm import LLM

    stopper: dict[str, Any] = {"artifact": str(artifact), "alpha": 0.05}
    if kind == "remote":
        stopper["remote"] = {"url": f"http://{HOST}:{port}", "deadline_ms": DEADLINE_MS}
    return LLM(
        model=str(model),
        dtype="float32",
        max_num_seqs=16,
        enable_prefix_caching=False,
        enable_chunked_prefill=False,
        disable_log_stats=True,
        additional_config={} if kind == "vanilla" else {"stopper": stopper},
    )


def counted(llm: Any) -> dict[str, int]:
    (rank,) = llm.collective_rpc("stopper_counters")
    return {**rank.get("remote", {}), "lost": sum(rank["fail_open"].values())}


def cpu_seconds(processes: list[Any]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(spent.user + spent.system for spent in times)


def settle(llm: Any, kind: str, tokens: int) -> None:
    """Run until the breaker is in the state that this sidecar keeps it in."""
    inputs = prompts(16)
    end = time.monotonic() + 90
    before = counted(llm)
    while time.monotonic() < end:
        seconds(llm, inputs, tokens, 0, 1)
        now = counted(llm)
        good = now.get("answered", 0) > before.get("answered", 0)
        if good if kind in ("slow", "real") else now["lost"] > before["lost"] + 10:
            return
    raise SystemExit(f"the engine does not reach the {kind} sidecar")


def measure(kind: str, rounds: int, tokens: int, mlp: int) -> dict[str, Any]:
    """Time one engine; runs in a process of its own."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        artifact = never_stopping(Path(scratch) / "artifact")
        with socket.create_server((HOST, 0)) as free:
            port = free.getsockname()[1]
        # Under its own name: the artifact was made for a model of that name.
        llm = engine(kind, widened(Path(scratch) / "model", mlp), artifact, port)
        engine_processes = psutil.Process().children(recursive=True)
        for state in KINDS if kind == "remote" else (kind,):
            with sidecar(state if kind == "remote" else "dead", port, artifact):
                if kind == "remote":
                    settle(llm, state, tokens)
                    before = counted(llm)
                for batch in (1, 16):
                    inputs = prompts(batch)
                    seconds(llm, inputs, tokens, 0, 1)
                    for number in range(rounds):
                        for mode in (1, 0) if number % 2 else (0, 1):
                            busy = cpu_seconds(engine_processes)
                            spent = seconds(llm, inputs, tokens, number, mode)
                            busy = cpu_seconds(engine_processes) - busy
                            found.setdefault(f"{state}/{batch}/{mode}", []).append(spent)
                            found.setdefault(f"{state}/{batch}/{mode}/cpu", []).append(busy)
                if kind == "remote":
                    after = counted(llm)
                    found[f"{state}/counters"] = {n: after[n] - before.get(n, 0) for n in after}
        # Otherwise the exit joins the engine's processes before anything tells them to stop.
        llm.llm_engine.engine_core.shutdown()
    return found


def apart(kind: str, rounds: int, tokens: int, mlp: int) -> dict[str, Any]:
    """Call `measure` in a process of its own."""
    command = [sys.executable, __file__, "--measure", kind]
    command += ["--rounds", str(rounds), "--tokens", str(tokens), "--mlp", str(mlp)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def summary(times: dict[str, Any], tokens: int) -> dict[str, Any]:
    """Turn seconds into ratios; above 1 is faster."""

    def typical(name: str) -> float:
        return statistics.median(times[name])

    def paired(kind: str, batch: int) -> float:
        off, on = (times[f"{kind}/{batch}/{mode}"] for mode in (0, 1))
        return statistics.median(a / b for a, b in zip(off, on, strict=True))

    def cpu(kind: str, batch: int) -> float:
        # Sums: a single figure is known to some ten milliseconds only.
        off, on = (sum(times[f"{kind}/{batch}/{mode}/cpu"]) for mode in (0, 1))
        return float(off / on)

    result: dict[str, Any] = {}
    for batch in (1, 16):
        vanilla, local = typical(f"vanilla/{batch}/1"), typical(f"local/{batch}/1")
        rows: dict[str, Any] = {
            "vanilla_ms_per_step": 1e3 * vanilla / tokens,
            "local": {
                "watching_ratio": paired("local", batch),
                "cpu_ratio": cpu("local", batch),
                "throughput_ratio": vanilla / local,
            },
        }
        for kind in KINDS:
            on = typical(f"{kind}/{batch}/1")
            rows[kind] = {
                "watching_ratio": paired(kind, batch),
                "cpu_ratio": cpu(kind, batch),
                "throughput_ratio": vanilla / on,
                "against_local": local / on,
            }
        result[f"batch_{batch}"] = rows
    result["events"] = {kind: times[f"{kind}/counters"] for kind in KINDS}
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--mlp", type=int, default=8192)
    parser.add_argument("--measure", choices=("vanilla", "local", "remote"), help=argparse.SUPPRESS)
    parser.add_argument("--stand-in", choices=("silent", "slow"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    # One core: threads that wait for each other would count their waiting as work.
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", str(max(os.sched_getaffinity(0))))
    if asked.stand_in:
        stand_in(asked.stand_in, asked.port)
        return
    if asked.measure:
        print(json.dumps(measure(asked.measure, asked.rounds, asked.tokens, asked.mlp)))
        return
    times: dict[str, Any] = {}
    for kind in ("vanilla", "remote", "local", "vanilla"):
        for name, found in apart(kind, asked.rounds, asked.tokens, asked.mlp).items():
            if isinstance(found, dict):
                times[name] = found
            else:
                times.setdefault(name, []).extend(found)
    result = summary(times, asked.tokens)
    print(json.dumps(result, indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
