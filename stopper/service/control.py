"""What operators and the alarm have decided for all replicas: one shared record."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Literal

import msgspec

from stopper.service.store import Store, StoreUnavailable

logger = logging.getLogger(__name__)

KEY = "control"


class Switch(msgspec.Struct, frozen=True):
    """The kill switch: while on, nothing is stopped anywhere. `time` is ISO 8601, UTC."""

    on: bool
    by: str
    why: str
    time: str


class Alarm(msgspec.Struct, frozen=True):
    """The drift alarm of one artifact version: while it stands, that artifact stops nothing."""

    time: str
    sentence: str


class Rearmed(msgspec.Struct, frozen=True):
    """An operator has taken an alarm back; each such beginning may raise a false alarm anew."""

    by: str
    why: str
    time: str
    times: int


class Active(msgspec.Struct, frozen=True):
    """The artifact that serves a model. `folder` is a name below the artifact root."""

    version: str
    folder: str
    previous_version: str | None
    previous_folder: str | None
    time: str


class Control(msgspec.Struct, frozen=True):
    """The record; `generation` counts its changes."""

    generation: int = 0
    kill_switch: Switch | None = None
    alarms: dict[str, Alarm] = {}
    rearmed: dict[str, Rearmed] = {}
    active: dict[str, Active] = {}

    def silence(self, version: str) -> Literal["kill_switch", "alarm"] | None:
        """Say why an artifact version may stop nothing; None if it may."""
        if self.kill_switch is not None and self.kill_switch.on:
            return "kill_switch"
        return "alarm" if version in self.alarms else None


class Board:
    """What one replica sees of the control record, refreshed in the background.

    While the store is away the last known record holds: a kill switch stays on.

    Parameters
    ----------
    store
        Shared by all replicas.
    every_s
        Seconds between two looks: a change reaches all replicas within about that.

    """

    def __init__(self, store: Store, every_s: float = 0.5) -> None:
        self._store = store
        self._every = every_s
        self.current = Control()
        self.reachable = True
        self._listeners: list[Callable[[Control], None]] = []

    def on_change(self, listener: Callable[[Control], None]) -> None:
        """Call `listener` with the record whenever it has changed; it must not raise."""
        self._listeners.append(listener)

    async def refresh(self) -> Control:
        """Read the record now.

        A store that came back without it gets the last known one: what was switched off stays off.

        Raises
        ------
        StoreUnavailable
            The last known record stays.

        """
        data = await self._store.get(KEY)
        known = self.current
        if _decoded(data).generation < known.generation:
            # Read before a change of our own was written, or lost: the store decides which.
            def newer(before: bytes | None) -> bytes | None:
                found = _decoded(before)
                return (
                    before if found.generation >= known.generation else msgspec.json.encode(known)
                )

            data = await self._store.update(KEY, newer)
        return self._take(data)

    async def change(self, change: Callable[[Control], Control]) -> Control:
        """Change the record for all replicas; `change` is pure.

        Raises
        ------
        StoreUnavailable
            Nothing was changed.

        """

        def encoded(before: bytes | None) -> bytes:
            # A store that lost the record does not undo what stood in it.
            old = max(_decoded(before), self.current, key=lambda record: record.generation)
            new = msgspec.structs.replace(change(old), generation=old.generation + 1)
            return msgspec.json.encode(new)

        return self._take(await self._store.update(KEY, encoded))

    def _take(self, data: bytes | None) -> Control:
        found = _decoded(data)
        changed = found != self.current
        self.current = found
        if changed:
            for listener in self._listeners:
                listener(found)
        return found

    @contextlib.asynccontextmanager
    async def refreshing(self) -> AsyncIterator[None]:
        """Refresh in the background."""
        await self._try_to_refresh()
        task = asyncio.create_task(self._refresh_forever())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _refresh_forever(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self._try_to_refresh()

    async def _try_to_refresh(self) -> None:
        try:
            await self.refresh()
        except StoreUnavailable as error:
            if self.reachable:
                logger.error("store away, the last known control record holds: %s", error)
            self.reachable = False
        else:
            if not self.reachable:
                logger.warning("store back")
            self.reachable = True


def _decoded(data: bytes | None) -> Control:
    return Control() if data is None else msgspec.json.decode(data, type=Control)
