"""Keeps callers off a server that fails, and lets one at a time find out whether it is back."""

from __future__ import annotations

import time
from collections.abc import Callable

from redis.backoff import AbstractBackoff, EqualJitterBackoff

from stopper.service.store.base import StoreUnavailable


class Gate:
    """Shut for a while after a failure, longer after each in a row; one success opens it.

    Parameters
    ----------
    hold_s
        Most seconds that one attempt takes; others stay out meanwhile.
    backoff
        Seconds shut after so many failures in a row; None takes 0.1 to 1 s.
    clock
        Seconds, ascending.

    """

    def __init__(
        self,
        hold_s: float,
        backoff: AbstractBackoff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hold = hold_s
        self._backoff = EqualJitterBackoff(cap=1.0, base=0.1) if backoff is None else backoff
        self._clock = clock
        self._failures = 0
        self._shut_until = 0.0
        self._why = ""

    def enter(self) -> int:
        """Return a ticket, to be given to `failed`.

        Raises
        ------
        StoreUnavailable
            While shut.

        """
        if self._failures:
            now = self._clock()
            if now < self._shut_until:
                raise StoreUnavailable(f"not asked again yet: {self._why}")
            self._shut_until = now + self._hold
        return self._failures

    def failed(self, ticket: int, why: str) -> None:
        """Shut; failures of calls that began before the last one count once, with it."""
        if ticket != self._failures:
            return
        self._failures += 1
        self._why = why
        # redis-py takes two to the power of it, which ends as an OverflowError.
        self._shut_until = self._clock() + self._backoff.compute(min(self._failures, 32))

    def worked(self) -> None:
        """Open."""
        self._failures = 0
