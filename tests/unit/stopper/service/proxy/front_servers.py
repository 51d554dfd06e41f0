"""Scripted engines and a sidecar before them, each under a real uvicorn."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from stopper.scripted.app import ScriptedEngine
from stopper.scripted.app import create_app as scripted_app
from stopper.scripted.script import Script, default_script
from stopper.service.app import create_app
from stopper.service.runtime import Runtime
from stopper.service.settings import ServeSettings
from tests.servers import serving

ARTIFACT = Path(__file__).resolve().parents[5] / "examples" / "tiny_reasoner" / "artifact"
CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
FAULT = "X-Scripted-Fault"
MESSAGES = [{"role": "user", "content": "How many primes are below 100?"}]
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"model": "scripted", "messages": MESSAGES},
    COMPLETIONS: {"model": "scripted", "prompt": "How many primes?", "max_tokens": 200},
    RESPONSES: {"model": "scripted", "input": "How many primes?", "request_id": "resp_1"},
}
STREAM: dict[str, Any] = BODIES[CHAT] | {"stream": True}


def script(**changes: Any) -> Script:
    """Return the built-in script with changes."""
    return default_script().model_copy(update=changes)


@dataclass
class Engine:
    """A scripted engine and where it listens."""

    url: str
    app: ScriptedEngine

    @property
    def log(self) -> list[Any]:
        """What it was asked, but for the front's looks at its models."""
        return [seen for seen in self.app.engine.log if seen.path != "/v1/models"]

    def seen(self, path: str) -> list[Any]:
        """What it was asked on one route."""
        return [seen for seen in self.log if seen.path == path]


@contextlib.contextmanager
def engine(made: Script | None = None) -> Iterator[Engine]:
    """Serve a scripted engine."""
    app = scripted_app(made)
    with serving(app, timeout_graceful_shutdown=1) as served:
        yield Engine(served.url, app)


@dataclass
class Sidecar:
    """A sidecar, its inside, and a client to it."""

    url: str
    runtime: Runtime
    client: httpx.Client

    def metric(self, name: str, **labels: str) -> float:
        """Return a metric's value, 0 where it has none."""
        return self.runtime.metrics.registry.get_sample_value(name, labels) or 0.0


@contextlib.contextmanager
def sidecar(*upstreams: str | dict[str, Any], share: float = 0.0, **settings: Any) -> Iterator[Any]:
    """Serve a sidecar before engines."""
    runtime = Runtime.from_settings(
        ServeSettings.read(upstreams=list(upstreams), audits={"share": share}, **settings)
    )
    with (
        serving(create_app(runtime=runtime), timeout_graceful_shutdown=1) as served,
        httpx.Client(base_url=served.url, timeout=30) as client,
    ):
        yield Sidecar(served.url, runtime, client)


def timeless(body: bytes) -> bytes:
    """Return a response without times and the ids of items, which differ between two requests."""
    body = re.sub(rb'"(created|created_at|completed_at)":[0-9.]+', rb'"\1":0', body)
    return re.sub(rb'"(?:rs|msg|item)?_?[0-9a-f]{16,}"', b'"item"', body)


def without_report(body: bytes) -> tuple[bytes, int]:
    """Return a response without the `stopper` object, and how many there were."""
    return re.subn(rb',"stopper":\{[^{}]*\}', b"", body)
