"""`GET /v1/status`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import Depends, FastAPI, Response

from stopper.service.auth import require
from stopper.service.runtime import Runtime
from stopper.service.schemas import content
from stopper.service.status.gathering import Gatherer
from stopper.service.status.records import Status
from stopper.service.status.scores import ScoreSample


def attach(app: FastAPI, runtime: Runtime) -> None:
    """Add the route; after the audits, which know how the promise stands."""
    sample = ScoreSample(runtime.store)
    runtime.finished.listen(sample.heard)
    runtime.while_running(sample.running)
    app.state.score_sample = sample
    gatherer = Gatherer(runtime, app.state.audit_desk, app.state.auditor)

    @app.get(
        "/v1/status",
        tags=["status"],
        summary="How the sidecar fares",
        response_class=Response,
        responses={
            200: {"content": content(app, Status), "description": "What the page `/` draws."}
        },
    )
    async def status(_: Annotated[str, Depends(require("read"))]) -> Response:
        found = msgspec.json.encode(await gatherer.status())
        return Response(found, media_type="application/json", headers={"Cache-Control": "no-store"})
