"""A sample of the scores at cues that all replicas saw lately, by artifact."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import msgspec

from stopper.service.proxy.finished import FinishedRequest
from stopper.service.store import Store, StoreUnavailable

FEED = "scores"
"""Feed of JSON objects: artifact version to shaped scores."""

KEPT = 200
MOST = 100
"""Scores of one artifact in a message, the newest."""

EVERY_S = 1.0

_messages = msgspec.json.Decoder(dict[str, list[float]]).decode


class ScoreSample:
    """Collects scores and tells the store of them once a second; while it is away they are lost."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=MOST))

    def add(self, version: str, scores: Iterable[float]) -> None:
        """Take scores of an artifact in."""
        self._seen[version].extend(score for score in scores if math.isfinite(score))

    def heard(self, request: FinishedRequest) -> None:
        """Take in those of a request of the OpenAI-compatible front."""
        record: Mapping[str, Any] = request.record or {}
        version, found = record.get("artifact"), record.get("cue_scores")
        if isinstance(version, str) and isinstance(found, list):
            self.add(version, [pair[1] for pair in found if is_score(pair)])

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Tell the store in the background."""
        task = asyncio.create_task(self._run(), name="score-sample")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            message = {version: list(scores) for version, scores in self._seen.items()}
            self._seen.clear()
            if message:
                with contextlib.suppress(StoreUnavailable):
                    await self._store.push(FEED, msgspec.json.encode(message), KEPT)


async def recent_scores(store: Store) -> dict[str, list[float]]:
    """Return the sample.

    Raises
    ------
    StoreUnavailable
        Nothing is known.

    """
    found: defaultdict[str, list[float]] = defaultdict(list)
    for item in await store.recent(FEED, KEPT):
        for version, scores in _messages(item).items():
            found[version] += scores
    return found


def is_score(pair: object) -> bool:
    """Tell whether something is a position with a finite score, as an engine records cues."""
    return (
        isinstance(pair, list | tuple)
        and len(pair) == 2
        and isinstance(pair[1], int | float)
        and math.isfinite(pair[1])
    )
