"""Gauges of the audits: how the promise of each artifact stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import Gauge

from calibration.monitor.panels import PANELS
from stopper.service.gauges import NEVER
from stopper.service.metrics import Metrics
from stopper.service.status.records import Standing


class AuditGauges:
    """Shows the figures of the drift monitors.

    Parameters
    ----------
    metrics
        Of this process.
    standings
        By artifact; one that has left is shown as NaN from then on.
    waiting
        Tells how many audits are not in the store yet.

    """

    def __init__(
        self, metrics: Metrics, standings: Mapping[str, Standing], waiting: Callable[[], int]
    ) -> None:
        self._metrics = metrics
        self._standings = standings
        self._waiting = waiting
        self._shown: set[str] = set()

    def show(self) -> None:
        """Set all of them."""
        self._metrics.audits_waiting.set(self._waiting())
        self._shown |= self._standings.keys()
        for version in self._shown:
            self._show(version, self._standings.get(version))

    def _show(self, version: str, standing: Standing | None) -> None:
        metrics = self._metrics
        figures: tuple[tuple[Gauge, float | None], ...] = (
            (metrics.audited, standing.audits if standing else None),
            (metrics.bad_share, standing.share if standing else None),
            (metrics.bad_share_low, standing.low if standing else None),
            (metrics.bad_share_high, standing.high if standing else None),
            (metrics.audited_alpha, standing.alpha if standing else None),
            (metrics.drift_evidence, standing.value if standing else None),
            (metrics.drift_bar, standing.bar if standing else None),
        )
        for gauge, value in figures:
            gauge.labels(version).set(NEVER if value is None else value)
        warned = {warning.panel for warning in standing.warnings} if standing else set()
        for panel in PANELS:
            metrics.profile_warning.labels(version, panel).set(float(panel in warned))
