"""What has been decided, for metrics, for the counters of all replicas and for the status page."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from time import time
from typing import get_args

import msgspec

from stopper.service.decisions.answers import Item, Undecided
from stopper.service.decisions.histogram import observe_all
from stopper.service.metrics import Metrics
from stopper.service.status import scores
from stopper.service.status.records import Recent
from stopper.service.store import Store, StoreUnavailable
from stopper.wire import Decision, Reason

_Seen = tuple[float, str | None, Decision]

FEED = "decisions"
"""Feed of `stopper.service.status.records.Recent` as JSON, request ids as short hashes: every stop
and mark of quiet traffic, a sample of busy traffic."""

KEPT = 500
"""Items of the feed."""

EVERY_S = 0.5
"""Seconds between two messages to the store."""

MOST_A_MESSAGE = 10
"""Decisions of each of the feed's two kinds (stops and marks, the newest of all) a message."""

MOST_SET_ASIDE = 2048
"""Decisions that wait for the next look."""

COUNTER = "events.{decision}.{reason}"
"""Counters of all replicas: decision is "stop", "mark" or "continue", reason as in the answer."""


_DECISION = {
    "score_above_threshold": "stop",
    "margin_above_schedule": "stop",
    "audit": "mark",
}
"""What the other reasons lead to is "continue"."""


class Tally:
    """Gathers decisions, and twice a second tells metrics and store of them.

    Parameters
    ----------
    metrics
        This process's.
    store
        Of all replicas; while it is away the counts wait here, and the feed has a gap.

    """

    def __init__(self, metrics: Metrics, store: Store) -> None:
        self._metrics = metrics
        self._store = store
        self._labelled = {
            reason: metrics.decisions.labels(_DECISION.get(reason, "continue"), reason)
            for reason in get_args(Reason)
        }
        # Deciding must not wait for all this: what came in is set aside, and looked at together.
        self._seconds: list[float] = []
        self._answers: list[Decision] = []
        self._models: list[str | None] = []
        self._fleet: Counter[str] = Counter()
        self._notable: deque[_Seen] = deque(maxlen=MOST_A_MESSAGE)
        self._newest: deque[_Seen] = deque(maxlen=MOST_A_MESSAGE)
        self._last: Sequence[Decision] = ()

    def not_decided(self, reason: Undecided, events: int) -> None:
        """Count events whose traces go on because nothing could be decided."""
        counter = self._metrics.not_applied
        if reason == "store_unavailable":
            counter = self._metrics.fail_open
        counter.labels(reason).inc(events)

    def add(self, items: Sequence[Item], answers: Sequence[Decision], seconds: float) -> None:
        """Take in a body of events and its answers."""
        self._seconds.append(seconds)
        self._answers += answers
        self._models += [getattr(item, "model", None) for item in items]
        self._last = answers
        if len(self._answers) >= MOST_SET_ASIDE:
            self.count()

    def count(self) -> None:
        """Tell the metrics what they do not know yet."""
        answers, models, seconds = self._answers, self._models, self._seconds
        self._answers, self._models, self._seconds = [], [], []
        observe_all(self._metrics.decision_seconds, seconds)
        found = Counter([answer.reason for answer in answers])
        for reason, number in found.items():
            self._labelled[reason].inc(number)
        self._fleet.update(found)
        shaped = [
            answer.score
            for answer in answers
            if answer.score is not None and answer.artifact is not None
        ]
        observe_all(self._metrics.probe_score, shaped)
        now = time()
        seen = [(now, model, answer) for model, answer in zip(models, answers, strict=True)]
        self._newest.extend(seen[-MOST_A_MESSAGE:])
        self._notable.extend(one for one in seen if one[2].reason in _DECISION)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Tell metrics and store in the background, and once more at the end."""
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
        """Tell metrics and store what they do not know yet; a store that is away hears it later."""
        if self._answers:
            self.count()
        counts, self._fleet = self._fleet, Counter()
        quiet = [one for one in self._newest if one[2].reason not in _DECISION]
        seen = [*quiet, *self._notable]
        self._notable.clear()
        self._newest.clear()
        if not counts:
            return
        named = {
            COUNTER.format(decision=_DECISION.get(reason, "continue"), reason=reason): float(number)
            for reason, number in counts.items()
        }
        try:
            await self._store.count(named)
        except StoreUnavailable:  # fails open and is counted where decisions are made
            self._fleet.update(counts)
            return
        with contextlib.suppress(StoreUnavailable):
            for one in seen:
                if one[2].reason != "refused":
                    await self._store.push(FEED, _recent(*one), KEPT)
            sample, self._last = _sample(self._last), ()
            if sample:
                await self._store.push(scores.FEED, msgspec.json.encode(sample), scores.KEPT)


def _sample(answers: Sequence[Decision]) -> dict[str, list[float]]:
    """Return the scores of one body, by artifact, for the histogram of the status page."""
    found: dict[str, list[float]] = {}
    for answer in answers[: scores.MOST]:
        if answer.score is not None and answer.artifact is not None:
            found.setdefault(answer.artifact, []).append(answer.score)
    return found


def _recent(when: float, model: str | None, answer: Decision) -> bytes:
    return msgspec.json.encode(
        Recent(
            source="events",
            time=datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds"),
            request_id=blake2b(answer.request_id.encode(), digest_size=6).hexdigest(),
            decision=_DECISION.get(answer.reason, "continue"),
            reason=answer.reason,
            model=model,
            position=answer.position,
            score=answer.score,
            threshold=answer.threshold,
            alpha=answer.alpha,
            artifact=answer.artifact,
        )
    )
