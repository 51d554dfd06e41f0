"""Attaches audits and the alarm to the application."""

from __future__ import annotations

import logging

from fastapi import FastAPI

from stopper.service.audits import routes
from stopper.service.audits.auditor import Auditor
from stopper.service.audits.desk import Desk
from stopper.service.audits.gauges import AuditGauges
from stopper.service.runtime import Runtime
from stopper.service.store import MemoryStore

logger = logging.getLogger(__name__)


def attach(app: FastAPI, runtime: Runtime) -> None:
    """Add the routes, the desk and the auditor.

    Raises
    ------
    InputError
        If the settings of audits are wrong.

    """
    desk = Desk(runtime)
    auditor = Auditor(runtime, desk)
    app.state.audit_desk, app.state.auditor = desk, auditor
    runtime.while_running(desk.running)
    runtime.while_running(auditor.running)

    def waiting() -> int:
        return desk.waiting + auditor.waiting

    runtime.looks.append(AuditGauges(runtime.metrics, desk.standings, waiting).show)
    runtime.details["audits"] = lambda: {
        "waiting": waiting(),
        "lost": desk.lost,
        "faults": dict(desk.faults),
    }
    if isinstance(runtime.store, MemoryStore) and runtime.catalog.all_active():
        logger.warning(
            "without Redis, audits and a standing alarm are forgotten when this process ends"
        )
    routes.attach(app, runtime, desk)
