"""Where the store keeps monitors: one state per artifact version and beginning."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from stopper.service.audits.pages import Head, decode, encode
from stopper.service.audits.watching import Entered
from stopper.service.control import Control
from stopper.service.store import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Beginning:
    """Which state of a version is open: number 0, and one more after each re-arming.

    Earlier ones stay in the store under their own names. `since` is when this one began; None for
    the first.
    """

    version: str
    number: int = 0
    since: datetime | None = None

    @classmethod
    def of(cls, version: str, control: Control) -> Beginning:
        """Take it from the control record, so that it changes together with the alarm."""
        rearmed = control.rearmed.get(version)
        if rearmed is None:
            return cls(version)
        return cls(version, rearmed.times, datetime.fromisoformat(rearmed.time))

    @property
    def key(self) -> str:
        """Its name in the store."""
        return f"monitor:{self.version}:{self.number}"


@dataclass(frozen=True, slots=True)
class Kept:
    """A state as it was read; `data` is what an exchange must find unchanged."""

    data: bytes | None = None
    head: Head | None = None
    pages: dict[str, bytes] = field(default_factory=dict)


class Vault:
    """Reads and exchanges states; of pages, which never change, each is read once.

    A state only grows. A store that came back without it, or with an earlier one, gets the last one
    that was seen here: the evidence of weeks should not depend on one server's disk.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last: dict[str, Kept] = {}

    async def look(self, beginning: Beginning, last: Kept | None = None) -> Kept:
        """Read the head alone; `last` is returned if nothing has changed.

        Raises
        ------
        StoreUnavailable, InputError
            The latter if it is damaged.

        """
        key = beginning.key
        data = await self._store.get(key)
        if last is not None and data == last.data and data is not None:
            return last
        known = self._last.get(key, Kept())
        if _audits(data, key) < _audits(known.data, key):
            logger.warning("the store lost audits of artifact %s: put back", beginning.version)
            await self._put_pages(known.pages)
            own = _audits(known.data, key)
            data = await self._store.update(
                key, lambda found: known.data if _audits(found, key) < own else found
            )
        return Kept(data, None if data is None else decode(data, key))

    async def read(self, beginning: Beginning) -> Kept:
        """Read a state with its pages.

        Raises
        ------
        StoreUnavailable, InputError
            The latter if its head is damaged; pages that are gone are left out.

        """
        kept = await self.look(beginning)
        if kept.head is None:
            return kept
        known = self._last.get(beginning.key, Kept()).pages
        pages = {}
        for name in (*kept.head.older, *kept.head.newer):
            page = known.get(name) or await self._store.get(_page(name))
            if page is not None:
                pages[name] = page
        self._last[beginning.key] = kept = Kept(kept.data, kept.head, pages)
        return kept

    async def exchange(self, beginning: Beginning, before: Kept, entered: Entered) -> bool:
        """Put a new state in the place of the one it was made from; False if that has changed.

        Raises
        ------
        StoreUnavailable
            Whether it was exchanged is not known.

        """
        new = {name: page for name, page in entered.pages.items() if name not in before.pages}
        await self._put_pages(new)
        data = encode(entered.head)
        done = False

        def change(found: bytes | None) -> bytes | None:
            nonlocal done  # of the last call, which is the one that counts
            done = found == before.data
            return data if done else found

        await self._store.update(beginning.key, change)
        if done:
            self._last[beginning.key] = Kept(data, entered.head, entered.pages)
            for name in before.pages.keys() - entered.pages.keys():
                await self._store.update(_page(name), lambda _: None)
        return done

    async def _put_pages(self, pages: Mapping[str, bytes]) -> None:
        for name, page in pages.items():
            await self._store.update(_page(name), functools.partial(_always, page))


def _page(name: str) -> str:
    return f"monitor-page:{name}"


def _audits(data: bytes | None, source: str) -> int:
    """Return how many audits a state holds; very many where another version wrote its head."""
    if data is None:
        return 0
    standing = decode(data, source).standing
    return sys.maxsize if standing is None else standing.audits


def _always(page: bytes, _: bytes | None) -> bytes:
    return page
