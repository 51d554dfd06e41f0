"""The store of one process: gone with it."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from struct import Struct

from msgspec.structs import replace

from stopper.service.store.base import Advanced, Change, Outcome, Step

MOST_STEPS = 1024
"""Answers remembered per trace; a repeat of an older one counts as out of order."""

_INF = float("inf")
_NAN = float("nan")
_FLOAT32 = Struct("<f")
_pack: Callable[[float], bytes] = _FLOAT32.pack
_unpack: Callable[[bytes], tuple[float]] = _FLOAT32.unpack


@dataclass(slots=True)
class _Trace:
    artifact: str
    alpha: float | None
    audit: bool
    last: int = -1
    low: float = _INF
    mark: int | None = None
    touched: float = 0.0
    answers: dict[int, Advanced] = field(default_factory=dict)


class MemoryStore:
    """A `Store` in memory.

    Not for several processes: each would have its own. Within one event loop every method runs
    without a pause, which makes it atomic.

    Parameters
    ----------
    ttl_s
        A trace that is not heard of for so long, in seconds, is forgotten.
    most_traces
        Beyond it the one that was quiet for longest is forgotten.

    """

    def __init__(self, ttl_s: float = 3600.0, most_traces: int = 100_000) -> None:
        self._ttl = ttl_s
        self._most = most_traces
        self._traces: OrderedDict[str, _Trace] = OrderedDict()
        self._values: dict[str, bytes] = {}
        self._feeds: dict[str, deque[bytes]] = {}
        self._counts: dict[str, float] = {}

    async def advance(self, steps: Sequence[Step]) -> list[Advanced]:
        """See `Store`."""
        now = time.monotonic()
        self._expire(now)
        return [self._advance(step, now) for step in steps]

    def _advance(self, step: Step, now: float) -> Advanced:
        trace = self._traces.get(step.request_id)
        if trace is None:
            trace = _Trace(step.artifact, step.alpha, step.audit)
            self._traces[step.request_id] = trace
            if len(self._traces) > self._most:
                self._traces.popitem(last=False)
        else:
            self._traces.move_to_end(step.request_id)
        trace.touched = now
        known = trace.answers.get(step.position)
        if known is not None:
            return replace(known, outcome="repeated")
        if step.artifact != trace.artifact:
            return _refused("artifact_changed", trace)
        if step.alpha != trace.alpha:
            return _refused("alpha_changed", trace)
        if step.position <= trace.last:
            return _refused("out_of_order", trace)
        answer = _take(trace, step)
        trace.answers[step.position] = answer
        if len(trace.answers) > MOST_STEPS:
            del trace.answers[next(iter(trace.answers))]
        return answer

    def _expire(self, now: float) -> None:
        while self._traces:
            oldest = next(iter(self._traces.values()))
            if now - oldest.touched <= self._ttl:
                return
            self._traces.popitem(last=False)

    async def forget(self, request_id: str) -> None:
        """See `Store`."""
        self._traces.pop(request_id, None)

    async def get(self, key: str) -> bytes | None:
        """See `Store`."""
        return self._values.get(key)

    async def update(self, key: str, change: Change) -> bytes | None:
        """See `Store`."""
        found = change(self._values.get(key))
        if found is None:
            self._values.pop(key, None)
        else:
            self._values[key] = found
        return found

    async def push(self, feed: str, item: bytes, keep: int) -> None:
        """See `Store`."""
        items = self._feeds.setdefault(feed, deque())
        items.append(item)
        while len(items) > keep:
            items.popleft()

    async def recent(self, feed: str, limit: int) -> list[bytes]:
        """See `Store`."""
        items = list(self._feeds.get(feed, ()))
        return items[-limit:] if limit > 0 else []

    async def count(self, amounts: Mapping[str, float]) -> None:
        """See `Store`."""
        for name, amount in amounts.items():
            self._counts[name] = self._counts.get(name, 0.0) + amount

    async def counts(self) -> dict[str, float]:
        """See `Store`."""
        return dict(self._counts)

    async def ping(self) -> None:
        """See `Store`."""

    async def close(self) -> None:
        """See `Store`."""


def _take(trace: _Trace, step: Step) -> Advanced:
    trace.last = step.position
    level = step.level
    score = _NAN
    if -_INF < level < _INF:
        score = level
        if step.weight != 0.0:
            if level < trace.low:
                trace.low = level
                score = level + 0.0  # no rise
            else:
                score = _risen(level, trace.low, step.weight)
    passes = -_INF < score < _INF and step.threshold < _INF and score > step.threshold
    if passes and trace.mark is None:
        trace.mark = step.position
    return Advanced(
        "new",
        score,
        step.threshold,
        trace.alpha,
        trace.artifact,
        trace.audit,
        passes,
        trace.mark is not None,
        trace.mark,
    )


def _risen(level: float, low: float, weight: float) -> float:
    """Return level + weight * (level - low), each operation rounded to float32.

    A double is fine enough for its rounding to be that of the exact result.
    """
    try:
        (rise,) = _unpack(_pack(level - low))
        (part,) = _unpack(_pack(rise * _weight(weight)))
        (score,) = _unpack(_pack(level + part))
    except OverflowError:  # beyond any float32
        return _INF
    return score


@lru_cache(64)
def _weight(weight: float) -> float:
    (rounded,) = _unpack(_pack(weight))
    return rounded


def _refused(outcome: Outcome, trace: _Trace) -> Advanced:
    return Advanced(
        outcome,
        float("nan"),
        float("nan"),
        trace.alpha,
        trace.artifact,
        trace.audit,
        False,
        trace.mark is not None,
        trace.mark,
    )
