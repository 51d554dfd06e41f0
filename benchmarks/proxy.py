"""Streams through the sidecar against streams straight from the engine; both in one run.

    python benchmarks/proxy.py [--engine vllm|scripted|URL] [--sidecar URL] [--json FILE]
        [--rounds 12] [--tokens 256] [--concurrency 1 --concurrency 8]

Starts `vllm serve` on the tiny reasoner with stopper in it (or the scripted engine, or takes a
running one), and `stopper serve` before it. Rounds alternate: the same prompts straight and through
the front. Requests stream `--tokens` tokens each, give or take a quarter, so that they do not all
end and begin at one moment. Reported are, for each concurrency, the
medians over the rounds of the streamed tokens a second (from sending the request to the end of the
stream, report included) and of the time to the first token, and the ratio (the difference) of the
two ways in neighbouring rounds.

Engine, its API server, the sidecar and this client share the machine: on two cores they take time
from each other, which counts against the front.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

HOME = Path(__file__).resolve().parents[1] / "examples" / "tiny_reasoner"


@dataclass(frozen=True)
class Streamed:
    """One stream: seconds to its first token and to its end, and how many tokens it had."""

    first: float
    whole: float
    tokens: int


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def process(command: list[str], url: str, env: dict[str, str]) -> Iterator[str]:
    """Run a server until the block ends; yields once `url` answers."""
    with tempfile.NamedTemporaryFile("w+", suffix=".log") as log:
        started = subprocess.Popen(command, env={**os.environ, **env}, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 400
            while True:
                if started.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"{command[0]} did not start:\n{Path(log.name).read_text()[-4000:]}")
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(url, timeout=2).status_code == 200:
                        break
                time.sleep(0.2)
            yield url
        finally:
            started.terminate()
            started.wait(60)


@contextlib.contextmanager
def engine(kind: str) -> Iterator[tuple[str, str]]:
    """Start an engine, or take a running one; yields its base URL and its model."""
    if kind not in ("vllm", "scripted"):
        yield kind, httpx.get(f"{kind}/v1/models").json()["data"][0]["id"]
        return
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    if kind == "vllm":
        config = {"stopper": {"artifact": str(HOME / "artifact"), "alpha": 0.05}}
        command = [
            str(Path(sys.executable).with_name("vllm")), "serve", str(HOME / "model"),
            "--served-model-name", "reasoner", "--dtype", "float32", "--enforce-eager",
            "--host", "127.0.0.1", "--port", str(port), "--reasoning-parser", "deepseek_r1",
            "--max-num-seqs", "16", "--no-enable-prefix-caching",
            "--additional-config", json.dumps(config),
        ]  # fmt: skip
        env = {
            "VLLM_PLUGINS": "stopper", "VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        with process(command, f"{base}/health", env):
            yield base, "reasoner"
        return
    long = " so I go on and on" * 200
    script = {
        "model": "reasoner",
        "token_delay_ms": 2.0,
        "traces": [{"name": "long", "pieces": [{"text": long}], "answer": "done"}],
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(script, file)
        file.flush()
        code = (
            "import sys, uvicorn, pathlib; from stopper.scripted.app import create_app; "
            "from stopper.scripted.script import read_script; "
            "uvicorn.run(create_app(read_script(pathlib.Path(sys.argv[1]))), "
            "port=int(sys.argv[2]), log_level='warning')"
        )
        command = [sys.executable, "-c", code, file.name, str(port)]
        with process(command, f"{base}/health", {}):
            yield base, "reasoner"


@contextlib.contextmanager
def sidecar(upstream: str) -> Iterator[str]:
    """Start the sidecar before an engine; yields its base URL."""
    port = free_port()
    command = [
        sys.executable, "-m", "stopper", "serve", "--upstream", upstream,
        "--artifact", f"reasoner={HOME / 'artifact'}", "--port", str(port),
    ]  # fmt: skip
    env = {"STOPPER_AUDITS__SHARE": "0.0", "OMP_NUM_THREADS": "1"}
    base = f"http://127.0.0.1:{port}"
    with process(command, f"{base}/readyz", env):
        yield base


class Client:
    """One connection that streams one request after the other, at little cost of its own."""

    def __init__(self, base: str) -> None:
        parts = urlsplit(base)
        self.host, self.port = parts.hostname or "", parts.port or 80

    async def __aenter__(self) -> Client:
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        await self.writer.wait_closed()

    async def stream(self, body: bytes) -> Streamed:
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {self.host}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        begin = time.perf_counter()
        self.writer.write(head.encode() + body)
        first, seen = 0.0, b""
        while not seen.endswith(b"0\r\n\r\n"):
            chunk = await self.reader.read(1 << 16)
            if not chunk:
                sys.exit(f"the stream broke off:\n{seen.decode()[-2000:]}")
            seen += chunk
            # The first event has a role only; that of a token comes after it.
            if not first and seen.count(b"data: ") >= 2:
                first = time.perf_counter() - begin
        whole = time.perf_counter() - begin
        if b"data: [DONE]" not in seen:
            sys.exit(f"no stream:\n{seen.decode()[-2000:]}")
        found = int(seen.rpartition(b'"completion_tokens":')[2].split(b",")[0].split(b"}")[0])
        return Streamed(first, whole, found)


async def one_round(base: str, bodies: list[bytes], concurrency: int) -> tuple[float, list[float]]:
    """Stream all bodies; return tokens a second and the times to the first token in ms."""
    waiting = list(bodies)
    done: list[Streamed] = []

    async def work(client: Client) -> None:
        while waiting:
            done.append(await client.stream(waiting.pop()))

    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(base)) for _ in range(concurrency)]
        begin = time.perf_counter()
        await asyncio.gather(*(work(client) for client in clients))
        elapsed = time.perf_counter() - begin
    return sum(one.tokens for one in done) / elapsed, [one.first * 1e3 for one in done]


async def compare(
    direct: str, front: str, model: str, *, rounds: int, tokens: int, concurrency: int
) -> dict[str, float]:
    lines = (HOME / "problems" / "test.jsonl").read_text().splitlines()
    count = 4 * concurrency

    def body(line: str, share: float) -> bytes:
        return json.dumps({
            "model": model, "messages": json.loads(line)["messages"], "stream": True,
            "stream_options": {"include_usage": True}, "temperature": 0.0, "ignore_eos": True,
            "max_tokens": round(tokens * share),
        }).encode()  # fmt: skip

    def bodies(number: int) -> list[bytes]:
        chosen = [lines[(number * count + index) % len(lines)] for index in range(count)]
        return [body(line, 0.75 + 0.5 * (index * 5 % 8) / 7) for index, line in enumerate(chosen)]

    for base in (direct, front):  # warm up
        await one_round(base, bodies(0), concurrency)
    speeds: dict[str, list[float]] = {direct: [], front: []}
    firsts: dict[str, list[float]] = {direct: [], front: []}
    for number in range(rounds):
        order = (direct, front) if number % 2 == 0 else (front, direct)
        for base in order:
            speed, first = await one_round(base, bodies(number), concurrency)
            speeds[base].append(speed)
            firsts[base].append(statistics.median(first))
    ratios = [through / straight for straight, through in zip(*speeds.values(), strict=True)]
    extra = [through - straight for straight, through in zip(*firsts.values(), strict=True)]
    return {
        "concurrency": concurrency,
        "direct_tokens_per_s": round(statistics.median(speeds[direct]), 1),
        "front_tokens_per_s": round(statistics.median(speeds[front]), 1),
        "tokens_ratio": round(statistics.median(ratios), 4),
        "tokens_ratio_lowest": round(min(ratios), 4),
        "tokens_ratio_highest": round(max(ratios), 4),
        "direct_first_token_ms": round(statistics.median(firsts[direct]), 2),
        "front_first_token_ms": round(statistics.median(firsts[front]), 2),
        "first_token_extra_ms": round(statistics.median(extra), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="vllm", help="vllm, scripted, or a URL")
    parser.add_argument("--sidecar", help="URL of a running one before --engine URL")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--concurrency", type=int, action="append")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        direct, model = stack.enter_context(engine(args.engine))
        front = args.sidecar or stack.enter_context(sidecar(direct))
        found = [
            asyncio.run(
                compare(
                    direct, front, model,
                    rounds=args.rounds, tokens=args.tokens, concurrency=concurrency,
                )
            )
            for concurrency in args.concurrency or [1, 8]
        ]  # fmt: skip
    text = json.dumps({"engine": args.engine, "cores": os.cpu_count(), "found": found}, indent=2)
    print(text)
    if args.json is not None:
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
