"""What a store can do. Everything is atomic: two replicas may ask at the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

Change = Callable[[bytes | None], bytes | None]
"""Pure: the old value (None: none) to the new one (None: delete)."""

Outcome = Literal["new", "repeated", "out_of_order", "artifact_changed", "alpha_changed"]


class StoreUnavailable(Exception):  # noqa: N818 - reads as a sentence where it is raised
    """The store cannot be reached: nothing is known, so nothing may be stopped."""


# Made thousands of times a second: msgspec makes one in a small part of a dataclass's time, and
# the garbage collector need not look at what holds text and numbers only.
class Step(msgspec.Struct, frozen=True, gc=False):
    """One cue of one trace, as the store takes it.

    Attributes
    ----------
    request_id, position
        Positions of a trace ascend; one that was there before is answered as it was then.
    level
        Raw score, float32 as a Python float; NaN or infinity never passes and leaves the trace's
        minimum alone.
    weight
        Of the rise over the trace's minimum (`probes.shaping`); 0 for raw scores.
    threshold
        float32 as a Python float; +inf never passes.
    alpha
        None for a schedule, which keeps none.
    artifact
        Version of the artifact that scored it; the first one stays the trace's.
    audit
        Whether the trace is audited; the first answer stays.

    """

    request_id: str
    position: int
    level: float
    weight: float
    threshold: float
    alpha: float | None
    artifact: str
    audit: bool


class Advanced(msgspec.Struct, frozen=True, gc=False):
    """What became of a step.

    Attributes
    ----------
    outcome
        "new" and "repeated" carry an answer, in the other cases nothing was changed and the
        fields below are the trace's (artifact, alpha) or empty. artifact_changed: the trace began
        under `artifact`. alpha_changed: it began with `alpha`.
    score
        Shaped, float32 as a Python float: level + weight * (level - minimum), each operation
        rounded to float32.
    passes
        float32(score) > float32(threshold), both finite or the threshold -inf.
    marked
        This cue or an earlier one passed.
    position_marked
        The first that passed; None while none has.

    """

    outcome: Outcome
    score: float
    threshold: float
    alpha: float | None
    artifact: str
    audit: bool
    passes: bool
    marked: bool
    position_marked: int | None


class Store(Protocol):
    """Trace state, small shared values, counters and a feed.

    Every method raises `StoreUnavailable` where the store cannot be reached.
    """

    async def advance(self, steps: Sequence[Step]) -> list[Advanced]:
        """Take steps in this order; each is atomic, and its trace's time to live begins anew."""
        ...

    async def forget(self, request_id: str) -> None:
        """Drop a trace."""
        ...

    async def get(self, key: str) -> bytes | None:
        """Return a shared value."""
        ...

    async def update(self, key: str, change: Change) -> bytes | None:
        """Replace a shared value by `change` of it and return the new one.

        Under contention `change` is called again on the newer value: it must be pure. Returning
        None deletes the key.
        """
        ...

    async def push(self, feed: str, item: bytes, keep: int) -> None:
        """Append to a feed of at most `keep` items."""
        ...

    async def recent(self, feed: str, limit: int) -> list[bytes]:
        """Return the newest items, newest last."""
        ...

    async def count(self, amounts: Mapping[str, float]) -> None:
        """Add to counters of the whole fleet, all or none."""
        ...

    async def counts(self) -> dict[str, float]:
        """Return all counters."""
        ...

    async def ping(self) -> None:
        """Raise unless the store answers."""
        ...

    async def close(self) -> None:
        """Release what is held."""
        ...
