"""Probes and metrics: is it alive, is it ready, what does it count."""

from __future__ import annotations

import os
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from pydantic import BaseModel, Field

from stopper.service.auth import require
from stopper.service.gauges import Gauges
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
        ready=runtime.ready,
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
    runtime.look()
    if WORKERS_FOLDER not in os.environ:
        return generate_latest(runtime.metrics.registry)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def attach(app: FastAPI, runtime: Runtime) -> None:
    """Add `/livez`, `/readyz` and `/metrics`."""
    gauges = Gauges(runtime)
    runtime.looks.append(gauges.show)
    runtime.board.on_change(lambda _: gauges.show())
    runtime.catalog.on_change(gauges.show)
    runtime.while_running(gauges.shown)

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
