"""Ends a wait that has lasted too long, at next to no cost for those that have not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class SilenceClock:
    """Calls `cancel` if the time between `start` and `stop` exceeds a limit.

    One timer serves many short waits: it is set anew only when it goes off, or goes off too late.

    Attributes
    ----------
    limit_s
        Of the last wait.
    expired
        Whether one lasted too long.

    """

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None
        self.limit_s = 0.0
        self.expired = False

    def start(self, limit_s: float) -> None:
        """Begin a wait of at most so many seconds; one that was begun before ends."""
        self.limit_s = limit_s
        self._deadline = deadline = self._loop.time() + limit_s
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._ring)
        elif self._timer.when() > deadline:
            self._timer.cancel()
            self._timer = self._loop.call_at(deadline, self._ring)

    def stop(self) -> None:
        """End the wait."""
        self._deadline = None

    def close(self) -> None:
        """End all waits."""
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._ring)
            return
        self.expired = True
        self._cancel()
