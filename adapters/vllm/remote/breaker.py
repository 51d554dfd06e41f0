"""Says when the sidecar is worth asking: not for a while after several failures in a row."""

from __future__ import annotations

import random
import time
from collections.abc import Callable


class Breaker:
    """A circuit breaker whose pauses double, up to a bound.

    Written here and not taken from a library: those we looked at pause for a fixed time. One
    thread asks `closed`, another reports; every attribute is assigned as a whole.

    Parameters
    ----------
    failures
        In a row, until it opens. After a pause one failure opens it again.
    first_s, longest_s
        Length of the first pause and of the longest one, each shortened at random by up to a
        fifth, so that many engines do not come back at one moment.
    clock
        Seconds, monotonic.
    chance
        Shortens the pauses.

    """

    def __init__(
        self,
        *,
        failures: int = 3,
        first_s: float = 1.0,
        longest_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        self._failures = failures
        self._first = first_s
        self._longest = longest_s
        self._clock = clock
        self._row = 0
        self._pause = 0.0
        self._until = 0.0
        self._random = chance or random.Random()  # noqa: S311 - spreads pauses, guards nothing

    @property
    def closed(self) -> bool:
        """Whether the sidecar may be asked now."""
        return not self._until or self._clock() >= self._until

    def succeeded(self) -> bool:
        """Report an answer; return whether it ends a time of failures."""
        back = self._pause > 0.0
        self._row, self._pause, self._until = 0, 0.0, 0.0
        return back

    def failed(self) -> float:
        """Report a failure; return the length of the pause that begins now, 0 for none."""
        self._row += 1
        if self._row < self._failures and not self._pause:
            return 0.0
        self._pause = min(self._longest, 2 * self._pause or self._first)
        pause = self._pause * (1 - 0.2 * self._random.random())
        self._until = self._clock() + pause
        return pause
