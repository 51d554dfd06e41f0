"""Gauges: what is shown as it stands, looked at once a second and whenever somebody scrapes."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator

from stopper.service.catalog import Served
from stopper.service.runtime import Runtime

EVERY_S = 1.0
NEVER = math.nan
"""Of what is over, or does not apply: no comparison with it holds."""


class Gauges:
    """Keeps the gauges of this replica, its artifacts, alarms and the kill switch right.

    What is over is set to 0 or NaN rather than removed, for all workers to see.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._shown: set[tuple[str, str, str, str]] = set()
        self._alarms: set[str] = set()

    def show(self) -> None:
        """Set all of them."""
        runtime = self._runtime
        runtime.metrics.ready.set(float(runtime.ready))
        self._show_control()
        self._show_artifacts()

    def _show_control(self) -> None:
        metrics, control = self._runtime.metrics, self._runtime.board.current
        switch = control.kill_switch
        metrics.kill_switch.set(float(switch is not None and switch.on))
        versions = {served.version for served in self._runtime.catalog.all_active()}
        self._alarms |= versions | set(control.alarms)
        for version in self._alarms:
            metrics.alarm.labels(version).set(float(version in control.alarms))

    def _show_artifacts(self) -> None:
        metrics, catalog = self._runtime.metrics, self._runtime.catalog
        now: dict[tuple[str, str, str, str], Served] = {}
        for served in catalog.all_active():
            now[served.model, served.version, served.record.method, served.record.loss] = served
            unavailable = catalog.silence(served.model) is not None
            metrics.artifact_unavailable.labels(served.model).set(float(unavailable))
        self._shown |= now.keys()
        for labels in self._shown:
            served_now = now.get(labels)
            metrics.artifact_info.labels(*labels).set(float(served_now is not None))
            expires = None if served_now is None else served_now.artifact.manifest.expires
            metrics.artifact_expires.labels(*labels[:2]).set(
                NEVER if expires is None else expires.timestamp()
            )
            metrics.artifact_alpha.labels(*labels[:2]).set(
                NEVER if served_now is None else served_now.alpha
            )

    @contextlib.asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Keep them and those of other parts (`Runtime.looks`) right while inside."""
        task = asyncio.create_task(self._look_forever(), name="gauges")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _look_forever(self) -> None:
        while True:
            self._runtime.look()
            await asyncio.sleep(EVERY_S)
