"""Two sidecars before scripted engines, under traffic, watched by a real Prometheus.

For the tests of rules and dashboard, and for a look at the dashboard without Grafana:

    python -m tests.integration.monitored --minutes 6 --out docs/dashboard.png
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from stopper.scripted.app import create_app
from stopper.scripted.script import Piece, Script, Threshold, Trace
from stopper.service.catalog import Served
from stopper.service.settings import ArtifactSource
from tests.servers import free_port, monitoring_program, redis_server, serving, sidecar, until

ROOT = Path(__file__).resolve().parents[2]
ARTIFACT = ROOT / "examples" / "tiny_reasoner" / "artifact"
WATCHING = ROOT / "deploy" / "prometheus"
MODEL = "reasoner"
DOCUMENT = {
    "title": "Australia",
    "text": "Canberra is the capital of Australia. Kangaroos hop. Sydney is larger than Canberra.",
}


def script(seed: int = 1, delay_ms: float = 0.0) -> Script:
    """Return courses of thought like those of the example artifact's calibration traces."""
    draw = random.Random(seed)

    def thinking(answer: int) -> Iterator[Piece]:
        for place in range(draw.choice((2, 2, 2, 3, 3))):
            words = " so".join(str(draw.randrange(10)) for _ in range(draw.randrange(45, 75)))
            score = draw.gauss(1.2 + 1.5 * place, 1.8)
            said = answer if draw.random() < 0.97 or place else answer + 1
            yield Piece(
                text=f"{words} wait", cue="wait", score=score, forced_answer=f"\\boxed{{{said}}}"
            )

    traces = []
    for number in range(60):
        pieces = (*thinking(number), Piece(text=" and so it is."))
        traces.append(Trace(name=f"t{number}", pieces=pieces, answer=f"So \\boxed{{{number}}}"))
    served = Served.read(ArtifactSource(folder=ARTIFACT, model=MODEL), None)
    return Script(
        model=MODEL,
        artifact=served.version,
        alpha=0.05,
        thresholds=(Threshold(alpha=0.05, threshold=served.threshold(0.05)),),
        think_id=540,
        end_of_thinking_id=541,
        token_delay_ms=delay_ms,
        traces=tuple(traces),
    )


@dataclass
class Stage:
    """Everything that runs, and what was asked of it."""

    prometheus: str
    sidecars: list[str]
    engines: list[str]
    client: httpx.Client
    asked: int = 0
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count())

    def api(self, path: str, **asked: Any) -> Any:
        """Return what Prometheus' HTTP API has; fail with its own words, also of warnings."""
        answer = self.client.get(f"{self.prometheus}/api/v1/{path}", params=asked)
        assert answer.status_code == 200, f"{asked}: {answer.text}"
        found = answer.json()
        assert "warnings" not in found, f"{asked}: {found['warnings']}"
        return found["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Evaluate an expression now."""
        found: list[dict[str, Any]] = self.api("query", query=expression)["result"]
        return found

    def ask(self, client: httpx.Client, seed: int) -> None:
        """Send one request of each kind, to each sidecar in turn."""
        url = self.sidecars[seed // 2 % len(self.sidecars)]
        body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Sum?"}]}
        if seed % 9 == 0:
            body["stopper"] = {"enabled": False}
        elif seed % 5 == 0:
            body["messages"][0]["content"] = "What is the capital of Australia?"
            body["stopper"] = {"documents": [DOCUMENT]}
        client.post(f"{url}/v1/chat/completions", json=body | {"stream": seed % 3 == 0})
        draw, trace = random.Random(seed), next(self._ids)
        for position in (40, 90, 150):
            event = {"request_id": f"e{trace}", "model": MODEL, "position": position,
                     "score": draw.gauss(2.0, 1.5)}  # fmt: skip
            if client.post(f"{url}/v1/stop-decisions", json=event).json().get("stop"):
                break
        self.asked += 1

    @contextlib.contextmanager
    def traffic(self, pause_s: float = 0.05) -> Iterator[None]:
        """Ask from two threads while inside."""
        over = threading.Event()

        def go_on(first: int) -> None:
            with httpx.Client(timeout=30) as client:
                for seed in itertools.count(first, 2):
                    if over.wait(pause_s):
                        return
                    self.ask(client, seed)

        threads = [threading.Thread(target=go_on, args=(first,), daemon=True) for first in (0, 1)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join(30)


@contextlib.contextmanager
def watched(folder: Path, targets: dict[str, list[str]], every: str) -> Iterator[str]:
    """Run Prometheus with the repository's configuration and rules, but for addresses and times."""
    config = yaml.safe_load((WATCHING / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": every, "evaluation_interval": every}
    config["rule_files"] = [str(WATCHING / name) for name in config["rule_files"]]
    for job in config["scrape_configs"]:
        job.pop("dns_sd_configs")
        job["static_configs"] = [{"targets": targets[job["job_name"]]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address, log = f"127.0.0.1:{free_port()}", folder / "prometheus.log"
    command = [
        monitoring_program("prometheus"), "--config.file", str(folder / "prometheus.yml"),
        "--storage.tsdb.path", str(folder / "data"), "--web.listen-address", address,
    ]  # fmt: skip
    with log.open("wb") as written:
        process = subprocess.Popen(command, stdout=written, stderr=written)

    def ready() -> bool:
        assert process.poll() is None, log.read_text()[-3000:]
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"http://{address}/-/ready").status_code == 200
        return False

    try:
        until(ready, "Prometheus")
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def stage(folder: Path, replicas: int = 1, delay_ms: float = 0.0) -> Iterator[Stage]:
    """Run two engines, Redis, sidecars and a Prometheus that looks every second."""
    scripts = [script(seed, delay_ms) for seed in (1, 2)]
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(serving(create_app(made))).url for made in scripts]
        redis = stack.enter_context(redis_server())
        options = ["--artifact", f"{MODEL}={ARTIFACT}", "--redis", redis.url]
        options += [word for url in urls for word in ("--upstream", url)]
        variables = {
            "STOPPER_AUDITS__SHARE": "0.3",
            "STOPPER_CONTEXT__ENABLED": "true",
            "STOPPER_CONTEXT__SCORER": "overlap",
        }
        sidecars = [
            stack.enter_context(sidecar(*options, **variables)).url for _ in range(replicas)
        ]
        targets = {
            "stopper": [url.partition("//")[2] for url in sidecars],
            "vllm": [url.partition("//")[2] for url in urls],
        }
        targets["stopper-engine"] = targets["vllm"]
        prometheus = stack.enter_context(watched(folder, targets, "1s"))
        client = stack.enter_context(httpx.Client(timeout=30))
        yield Stage(prometheus, sidecars, urls, client)


def main() -> None:
    """Run for some minutes, with an engine that fails and a drill, and draw the dashboard."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--out", type=Path, default=Path("docs/dashboard.png"))
    asked = parser.parse_args()
    seconds = asked.minutes * 60
    with (
        tempfile.TemporaryDirectory() as folder,
        stage(Path(folder), replicas=2, delay_ms=2.0) as made,
        traffic_with_trouble(made, seconds),
    ):
        draw = [sys.executable, str(ROOT / "deploy" / "grafana" / "preview.py")]
        draw += ["--prometheus", made.prometheus, "--out", str(asked.out)]
        subprocess.run([*draw, "--minutes", str(asked.minutes)], check=True)


@contextlib.contextmanager
def traffic_with_trouble(made: Stage, seconds: float) -> Iterator[None]:
    """Ask for so long; in between an engine fails, and somebody tries the kill switch."""
    fault = f"{made.engines[1]}/scripted/fault"
    switch = f"{made.sidecars[0]}/v1/kill-switch"
    with made.traffic():
        time.sleep(0.4 * seconds)
        httpx.put(fault, json={"kind": "status", "code": 503}).raise_for_status()
        time.sleep(0.15 * seconds)
        httpx.delete(fault).raise_for_status()
        time.sleep(0.15 * seconds)
        httpx.post(switch, json={"on": True, "why": "drill"}).raise_for_status()
        time.sleep(0.1 * seconds)
        httpx.post(switch, json={"on": False, "why": "drill is over"}).raise_for_status()
        time.sleep(0.2 * seconds)
        yield


if __name__ == "__main__":
    main()
