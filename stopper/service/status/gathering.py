"""Gathers the status from everything that knows a part of it."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from typing import Literal

import msgspec

from calibration.profile import Histogram
from stopper import __version__
from stopper.service.audits.auditor import Auditor
from stopper.service.audits.desk import Desk
from stopper.service.catalog import Served as Active
from stopper.service.control import Control
from stopper.service.runtime import Runtime
from stopper.service.status.records import (
    Auditing,
    Card,
    Recent,
    Scores,
    Served,
    Status,
    StoreStatus,
)
from stopper.service.status.scores import recent_scores
from stopper.service.store import MemoryStore, StoreUnavailable

FEED = "decisions"
SHOWN = 50
"""Newest decisions in the status."""

_recent = msgspec.json.Decoder(Recent).decode


class Gatherer:
    """Gathers one replica's status; while the store is away, what is known without it."""

    def __init__(self, runtime: Runtime, desk: Desk, auditor: Auditor) -> None:
        self._runtime = runtime
        self._desk = desk
        self._auditor = auditor
        self._begun = time.monotonic()

    async def status(self) -> Status:
        """Return how the sidecar fares now."""
        runtime, desk = self._runtime, self._desk
        store, now = runtime.store, datetime.now(UTC)
        counters: dict[str, float] = {}
        decisions: list[Recent] = []
        scores: dict[str, list[float]] = {}
        reachable = True
        try:
            counters = await store.counts()
            decisions = [_recent(item) for item in await store.recent(FEED, SHOWN)]
            scores = await recent_scores(store)
        except StoreUnavailable:
            reachable = False
        return Status(
            version=__version__,
            time=now.isoformat(timespec="milliseconds"),
            uptime_s=round(time.monotonic() - self._begun, 1),
            draining=runtime.draining,
            unready=dict(runtime.unready),
            store=StoreStatus("memory" if isinstance(store, MemoryStore) else "redis", reachable),
            control=runtime.board.current,
            artifacts=[
                self._served(active, scores.get(active.version, []), now)
                for active in runtime.catalog.all_active()
            ],
            auditing=Auditing(
                runtime.settings.audits.share, desk.waiting + self._auditor.waiting, desk.lost
            ),
            counters=counters,
            decisions=decisions,
        )

    def _served(self, active: Active, scores: list[float], now: datetime) -> Served:
        control: Control = self._runtime.board.current
        profile = active.artifact.manifest.profile
        return Served(
            card=_card(active, now),
            silenced=control.silence(active.version) or self._runtime.catalog.silence(active.model),
            alarm=control.alarms.get(active.version),
            rearmed=control.rearmed.get(active.version),
            standing=self._desk.standings.get(active.version),
            fault=self._desk.faults.get(active.version),
            scores=None if profile is None else _scores(profile.scores, scores),
        )


def _card(active: Active, now: datetime) -> Card:
    manifest, record = active.artifact.manifest, active.record
    threshold = active.threshold(active.alpha)
    stops: Literal["above_threshold", "at_first_cue", "never"] = "above_threshold"
    if math.isinf(threshold):
        stops = "never" if threshold > 0 else "at_first_cue"
    return Card(
        model=active.model,
        version=active.version,
        folder=active.folder.name,
        alpha=active.alpha,
        threshold=threshold if math.isfinite(threshold) else None,
        stops=stops,
        method=record.method,
        loss=record.loss,
        confidence=None if record.method == "crc" else record.confidence,
        n=record.n_units,
        promise=record.promise,
        created=manifest.created.isoformat(),
        expires=None if manifest.expires is None else manifest.expires.isoformat(),
        expired=manifest.expired(now),
    )


def _scores(histogram: Histogram, recent: list[float]) -> Scores:
    now = Histogram.of(recent, histogram.edges)
    return Scores(list(histogram.edges), list(histogram.counts), list(now.counts))
