"""Probes and metrics: is it alive, is it ready, what does it count."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from pydantic import BaseModel, Field

from stopper.service.auth import require
from stopper.service.control import Control
from stopper.service.metrics import WORKERS_FOLDER
from stopper.service.runtime import Runtime
from stopper.service.store import MemoryStore


class StoreState(BaseModel):
    """What this replica knows of the shared store; while it is away nothing is stopped."""

    kind: str
    reachable: bool


class ArtifactState(BaseModel):
    """An active artifact; `silence` says why it stops nothing."""

    model: str
    artifact: str
    stops: bool
    silence: str | None


class Readiness(BaseModel):
    """Details of `/readyz`.

    Only `unready` and `draining` make a replica unready. Where stopping is off for all replicas
    alike (kill switch, alarm, an expired artifact, a store that is away) it still answers: the
    OpenAI-compatible front must not go down with it.
    """

    ready: bool
    draining: bool
    unready: dict[str, str] = Field(description="Reasons, by part.")
    degraded: dict[str, str] = Field(description="Why less is stopped than could be, by part.")
    store: StoreState
    artifacts: list[ArtifactState]
    kill_switch: str | None = Field(description="Why it is on; null while it is off.")
    alarms: dict[str, str] = Field(description="Standing drift alarms, by artifact.")
    keys: str | None = Field(description="Why the key file cannot be read again.")
    parts: dict[str, Any] = Field(description="What other parts tell, such as `upstreams`.")


def readiness(runtime: Runtime) -> Readiness:
    """Look at everything, without waiting for anything."""
    control = runtime.board.current
    switch = control.kill_switch
    artifacts = []
    for served in runtime.catalog.all_active():
        silence = control.silence(served.version) or runtime.catalog.silence(served.model)
        artifacts.append(
            ArtifactState(
                model=served.model,
                artifact=served.version,
                stops=silence is None,
                silence=silence,
            )
        )
    return Readiness(
        ready=not runtime.draining and not runtime.unready,
        draining=runtime.draining,
        unready=dict(runtime.unready),
        degraded=dict(runtime.degraded),
        store=StoreState(
            kind="memory" if isinstance(runtime.store, MemoryStore) else "redis",
            reachable=runtime.board.reachable,
        ),
        artifacts=artifacts,
        kill_switch=(switch.why or "on") if switch is not None and switch.on else None,
        alarms={version: alarm.sentence for version, alarm in control.alarms.items()},
        keys=runtime.keys.fault,
        parts={name: tell() for name, tell in runtime.details.items()},
    )


def metrics_text(runtime: Runtime) -> bytes:
    """Return the metrics of this process, or of all workers together."""
    if WORKERS_FOLDER not in os.environ:
        return generate_latest(runtime.metrics.registry)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


class Gauges:
    """Keeps the gauges of artifacts, alarms and the kill switch right."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._shown: set[tuple[str, str, str, str]] = set()
        self._alarms: set[str] = set()

    def show(self, control: Control) -> None:
        """Set all of them; what is over is set to 0, for all workers to see."""
        metrics = self._runtime.metrics
        switch = control.kill_switch
        metrics.kill_switch.set(float(switch is not None and switch.on))
        active = self._runtime.catalog.all_active()
        now = {(s.model, s.version, s.record.method, s.record.loss) for s in active}
        for labels in self._shown | now:
            metrics.artifact_info.labels(*labels).set(float(labels in now))
        versions = {served.version for served in active} | set(control.alarms)
        for version in self._alarms | versions:
            metrics.alarm.labels(version).set(float(version in control.alarms))
        self._shown |= now
        self._alarms |= versions


def attach(app: FastAPI, runtime: Runtime) -> None:
    """Add `/livez`, `/readyz` and `/metrics`."""
    gauges = Gauges(runtime)
    runtime.board.on_change(gauges.show)
    runtime.catalog.on_change(lambda: gauges.show(runtime.board.current))

    @asynccontextmanager
    async def shown() -> AsyncIterator[None]:
        gauges.show(runtime.board.current)
        yield

    runtime.while_running(shown)

    # Load balancers like to ask by HEAD; uvicorn leaves the body out.
    @app.head("/livez", include_in_schema=False)
    @app.get(
        "/livez",
        tags=["health"],
        summary="Whether the process answers",
        responses={200: {"content": {"application/json": {"example": {"alive": True}}}}},
    )
    async def livez() -> dict[str, bool]:
        return {"alive": True}

    @app.head("/readyz", include_in_schema=False)
    @app.get(
        "/readyz",
        tags=["health"],
        summary="Whether to send requests here, with details",
        response_model=Readiness,
        responses={
            503: {"model": Readiness, "description": "Send requests elsewhere."},
        },
    )
    async def readyz(response: Response) -> Readiness:
        found = readiness(runtime)
        response.status_code = 200 if found.ready else 503
        response.headers["Cache-Control"] = "no-store"
        return found

    @app.get(
        "/metrics",
        tags=["health"],
        summary="Metrics for Prometheus",
        response_class=Response,
        responses={
            200: {
                "content": {
                    "text/plain": {
                        "schema": {"type": "string"},
                        "example": 'stopper_audits_total{outcome="good"} 12.0\n',
                    }
                }
            }
        },
    )
    async def metrics(_: Annotated[str, Depends(require("read"))]) -> Response:
        return Response(metrics_text(runtime), media_type=CONTENT_TYPE_LATEST)
