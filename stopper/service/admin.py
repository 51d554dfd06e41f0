"""What operators decide: which artifact serves, and whether anything is stopped at all."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, FastAPI
from msgspec.structs import replace
from pydantic import BaseModel, ConfigDict, Field

from stopper.service.auth import require
from stopper.service.catalog import Served
from stopper.service.control import Control, Switch
from stopper.service.problems import ProblemError
from stopper.service.runtime import Runtime
from stopper.service.store import StoreUnavailable
from stopper.service.succession import Succession

logger = logging.getLogger(__name__)

Admin = Annotated[str, Depends(require("admin"))]
Reader = Annotated[str, Depends(require("read"))]
ModelName = Annotated[
    str | None, Field(max_length=512, description="Not needed where one is served.")
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class KillSwitch(_Body):
    """Turns all stopping off, or on again, on all replicas."""

    on: bool
    why: Annotated[str, Field(max_length=500, description="For the log and the status page.")] = ""


class KillSwitchState(BaseModel):
    """The switch as all replicas see it within about a second."""

    on: bool
    by: str | None = Field(description="Name of the API key.")
    why: str | None
    time: str | None = Field(description="ISO 8601, UTC.")


class Load(_Body):
    """Names a folder below the artifact root."""

    model: ModelName = None
    folder: Annotated[
        str | None,
        Field(max_length=255, description="Null reads the active folder again."),
    ] = None


class Rollback(_Body):
    """Names the model."""

    model: ModelName = None


class ArtifactCard(BaseModel):
    """An active artifact, and what it promises."""

    model: str
    artifact: str = Field(description="First 16 digits of the SHA-256 of its manifest.")
    folder: str
    since: str | None = Field(description="When it was loaded at run time; null: at the start.")
    previous: str | None = Field(description="The version that a rollback would serve.")
    method: str
    loss: str
    alpha: float = Field(description="Of requests that name none.")
    confidence: float | None
    promise: str
    calibration_traces: int
    expires: str | None
    silence: str | None = Field(description="Why it stops nothing; null where it does.")
    detail: str | None = Field(description="Says more where this replica alone cannot serve it.")


class Artifacts(BaseModel):
    """All active artifacts of this replica."""

    artifacts: list[ArtifactCard]


def card(runtime: Runtime, served: Served) -> ArtifactCard:
    """Describe an active artifact."""
    control = runtime.board.current
    record = control.active.get(served.model)
    ours = record if record is not None and record.version == served.version else None
    expires = served.artifact.manifest.expires
    return ArtifactCard(
        model=served.model,
        artifact=served.version,
        folder=served.folder.name,
        since=ours.time if ours is not None else None,
        previous=ours.previous_version if ours is not None else None,
        method=served.record.method,
        loss=served.record.loss,
        alpha=served.alpha,
        confidence=served.record.confidence,
        promise=served.record.promise,
        calibration_traces=served.record.n_traces,
        expires=expires.isoformat() if expires is not None else None,
        silence=control.silence(served.version) or runtime.catalog.silence(served.model),
        detail=runtime.catalog.withheld().get(served.model),
    )


def attach(app: FastAPI, runtime: Runtime) -> None:
    """Add the admin routes and what follows the control record."""
    succession = Succession(runtime)
    runtime.while_running(succession.following)
    runtime.hang_up = succession.reload_all

    @app.get("/v1/artifacts", tags=["status"], summary="Which artifact serves which model")
    async def artifacts(_: Reader) -> Artifacts:
        return Artifacts(artifacts=[card(runtime, s) for s in runtime.catalog.all_active()])

    @app.post("/v1/artifacts/load", tags=["admin"], summary="Serve another artifact")
    async def load(body: Load, by: Admin) -> ArtifactCard:
        return card(runtime, await succession.load(body.model, body.folder, by))

    @app.post("/v1/artifacts/rollback", tags=["admin"], summary="Serve the one before again")
    async def rollback(body: Rollback, by: Admin) -> ArtifactCard:
        return card(runtime, await succession.rollback(body.model, by))

    @app.post("/v1/kill-switch", tags=["admin"], summary="Stop nothing any more, or again")
    async def kill_switch(body: KillSwitch, by: Admin) -> KillSwitchState:
        time = datetime.now(UTC).isoformat(timespec="seconds")

        def change(control: Control) -> Control:
            return replace(control, kill_switch=Switch(body.on, by, body.why, time))

        try:
            switch = (await runtime.board.change(change)).kill_switch
        except StoreUnavailable as error:
            raise ProblemError(
                "unavailable", f"The store is away, nothing was changed: {error}"
            ) from None
        assert switch is not None
        logger.warning("kill switch %s by %s", "on" if switch.on else "off", by)
        return KillSwitchState(on=switch.on, by=switch.by, why=switch.why, time=switch.time)
