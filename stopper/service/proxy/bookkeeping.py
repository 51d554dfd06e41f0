"""Counts finished requests: this process's metrics, the fleet's counters, the live feed."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from stopper.service.decisions.histogram import observe_all
from stopper.service.decisions.tally import EVERY_S, FEED, KEPT, MOST_A_MESSAGE
from stopper.service.proxy.finished import FinishedRequest
from stopper.service.proxy.options import Prepared
from stopper.service.runtime import Runtime
from stopper.service.status.records import Recent
from stopper.service.status.scores import is_score
from stopper.service.store import StoreUnavailable

COUNTER = "front.{decision}.{reason}"
"""Counters of all replicas: requests, as the `stopper` object of their responses has it."""

SAVED = "front.tokens_saved_estimate"
"""Sum over stopped requests, in tokens."""

_DECIDED_ELSEWHERE = ("remote", "forced_position")
"""Fields of a record whose scores the stop-decision endpoint has counted."""

_REASON = re.compile(r"[A-Za-z0-9_]{1,64}")


class Books:
    """Takes finished requests in; the store hears of them twice a second."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._fleet: Counter[str] = Counter()
        self._saved = 0.0
        self._newest: deque[FinishedRequest] = deque(maxlen=2 * MOST_A_MESSAGE)

    def enter(self, request: FinishedRequest, prepared: Prepared) -> None:
        """Count a request and tell the listeners of it."""
        metrics, report = self._runtime.metrics, request.report
        reason = report.reason or "none"
        if _REASON.fullmatch(reason) is None:
            reason = "other"  # an engine's, and no label
        metrics.decisions.labels(report.decision, reason).inc()
        if report.decision == "not_applied":
            metrics.not_applied.labels(reason).inc()
        elif report.decision == "failed_open":
            metrics.fail_open.labels(reason).inc()
        if prepared.not_audited or (prepared.audited and not request.audited):
            metrics.audits.labels("not_possible").inc()
        if report.tokens_saved_estimate is not None:
            metrics.saved.inc(report.tokens_saved_estimate)
            self._saved += report.tokens_saved_estimate
        observe_all(metrics.probe_score, _scores_seen_first(request.record or {}))
        self._fleet[COUNTER.format(decision=report.decision, reason=reason)] += 1
        self._newest.append(request)
        failed = self._runtime.finished.tell(request)
        if failed:
            metrics.fail_open.labels("finished_listener").inc(failed)

    def responded(self, status: int | None) -> None:
        """Count a response by its HTTP status; None: it was broken off in the middle."""
        label = "broken_off" if status is None else str(status)
        self._runtime.metrics.responses.labels(label).inc()

    def miss_audit(self) -> None:
        """Count a request chosen for an audit whose response never ended, or was an error."""
        self._runtime.metrics.audits.labels("unfinished").inc()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Tell the store in the background, and once more at the end."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await self.flush()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Tell the store what it does not know yet; while it is away the counts wait here."""
        counts, self._fleet = self._fleet, Counter()
        saved, self._saved = self._saved, 0.0
        newest = list(self._newest)
        self._newest.clear()
        if not counts:
            return
        amounts = {name: float(number) for name, number in counts.items()}
        try:
            await self._runtime.store.count(amounts | ({SAVED: saved} if saved else {}))
        except StoreUnavailable:
            self._fleet.update(counts)
            self._saved += saved
            return
        with contextlib.suppress(StoreUnavailable):  # the feed has a gap then
            for request in newest:
                await self._runtime.store.push(FEED, _recent(request), KEPT)


def _scores_seen_first(record: Mapping[str, Any]) -> list[float]:
    """Return the scores of an engine's record, but for those that a sidecar had to decide on."""
    found = record.get("cue_scores")
    if not isinstance(found, list) or not record.keys().isdisjoint(_DECIDED_ELSEWHERE):
        return []
    return [pair[1] for pair in found if is_score(pair)]


def _recent(request: FinishedRequest) -> bytes:
    report = request.report
    return msgspec.json.encode(
        Recent(
            source="front",
            time=request.time.isoformat(timespec="milliseconds"),
            request_id=blake2b(request.request_id.encode(), digest_size=6).hexdigest(),
            decision=report.decision,
            reason=report.reason,
            model=request.model,
            position=report.position,
            score=report.score,
            threshold=report.threshold,
            alpha=report.alpha,
            tokens_saved_estimate=report.tokens_saved_estimate,
            artifact=report.artifact,
        )
    )
