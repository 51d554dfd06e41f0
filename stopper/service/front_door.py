"""What every request passes first: the log, a bound on how many run, bounds on bodies."""

from __future__ import annotations

from fastapi import FastAPI

from stopper.service import tracing
from stopper.service.admission import Admission
from stopper.service.bodies import Bodies
from stopper.service.logs import RequestLog
from stopper.service.runtime import Runtime


def attach(app: FastAPI, runtime: Runtime) -> None:
    """Put it around everything that was attached before."""
    limits = runtime.settings.limits
    app.add_middleware(Bodies, most=limits.body_bytes, seconds=limits.body_s)
    app.add_middleware(Admission, runtime=runtime)
    if runtime.settings.otel:
        tracing.attach(app, runtime)
    app.add_middleware(RequestLog)
