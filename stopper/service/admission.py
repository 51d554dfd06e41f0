"""How much runs at a time; on the way out, nothing new begins."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from stopper.service.problems import problem, respond
from stopper.service.runtime import Runtime

ALWAYS = frozenset({"/livez", "/readyz", "/metrics"})
"""Answered also under load and on the way out."""


class Admission:
    """Counts the requests that run; answers 503 beyond the bound and while draining."""

    def __init__(self, app: ASGIApp, runtime: Runtime) -> None:
        self._app = app
        self._runtime = runtime
        self._most = runtime.settings.limits.concurrency

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http" or scope["path"] in ALWAYS:
            await self._app(scope, receive, send)
            return
        runtime = self._runtime
        if runtime.draining or runtime.in_flight >= self._most:
            detail = (
                "This sidecar is about to end; ask another one."
                if runtime.draining
                else f"{self._most} requests run already; try again."
            )
            headers = {"Retry-After": "1"}
            if runtime.draining:
                headers["Connection"] = "close"
            await respond(problem("unavailable", detail), headers)(scope, receive, send)
            return
        runtime.in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            runtime.in_flight -= 1
