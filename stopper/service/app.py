"""The sidecar's application: every part attaches itself to it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI

from stopper import __version__
from stopper.service import (
    admin,
    compression,
    decisions,
    front_door,
    health,
    openapi,
    page,
    problems,
)
from stopper.service.audits.part import attach as attach_audits
from stopper.service.proxy.attach import attach as attach_front
from stopper.service.runtime import Runtime
from stopper.service.settings import ServeSettings
from stopper.service.status.route import attach as attach_status

Part = Callable[[FastAPI, Runtime], object]

PARTS: tuple[Part, ...] = (
    health.attach,
    admin.attach,
    decisions.attach,
    compression.attach,
    attach_front,
    attach_audits,
    attach_status,
    page.attach,
)
"""Each adds its routes and what runs beside them."""


def create_app(settings: ServeSettings | None = None, runtime: Runtime | None = None) -> FastAPI:
    """Build the application.

    Parameters
    ----------
    settings
        None reads variables and defaults.
    runtime
        To share a store or a catalog; None makes one from `settings`.

    Raises
    ------
    StopperError
        If the settings, an artifact or a key file is wrong.

    """
    if runtime is None:
        runtime = Runtime.from_settings(ServeSettings.read() if settings is None else settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with runtime.running():
            yield

    app = FastAPI(
        title="stopper",
        version=__version__,
        summary="Ends the thinking of reasoning models at the right moment.",
        lifespan=lifespan,
        generate_unique_id_function=openapi.operation_id,
        docs_url=None,  # they fetch scripts from elsewhere
        redoc_url=None,
    )
    app.state.runtime = runtime
    problems.install(app)
    for part in PARTS:
        part(app, runtime)
    front_door.attach(app, runtime)
    openapi.install(app)
    return app
