"""Takes audits in, for all replicas together, and raises the alarm."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal

from calibration.monitor import Audit
from calibration.monitor.evidence import evidence
from stopper.errors import InputError, StopperError
from stopper.service.audits import watching
from stopper.service.audits.alarms import Alarms, now
from stopper.service.audits.log_file import AuditLog
from stopper.service.audits.vault import Beginning, Kept, Vault
from stopper.service.audits.watching import Entered, Watch
from stopper.service.catalog import Served
from stopper.service.control import Rearmed
from stopper.service.runtime import Runtime
from stopper.service.status.records import Standing
from stopper.service.store import StoreUnavailable

logger = logging.getLogger(__name__)

MOST_WAITING = 10_000
"""Audits that wait for the store; beyond it they are lost."""

MOST_AT_ONCE = 2_000
LOOK_S = 1.0
"""Seconds between two looks at what other replicas counted."""

REST = 5
"""How long to rest after a write, by the write's time."""

LAST_S = 3.0
"""Seconds for what still waits when the sidecar ends."""

MOST_TRIES = 50

Fate = Literal[watching.Fate, "unknown_artifact", "refused", "waiting", "lost"]
"""What became of an audit.

refused: the artifact's state cannot be used, see the status. waiting: the store is away; it will be
counted when it is back. lost: too many wait already, or the sidecar ended first.
"""


@dataclass(frozen=True, slots=True)
class _Offer:
    audits: Sequence[Audit]
    fates: asyncio.Future[list[Fate]]


class Desk:
    """Collects the audits of this replica and enters them into the shared monitors.

    What arrives while a state is written is entered together next; after each write the desk rests
    for several times as long as that took, so that a flood of audits does not take a core.

    Raises
    ------
    InputError
        If the method is unknown or the log cannot be written.

    """

    def __init__(self, runtime: Runtime) -> None:
        asked = runtime.settings.audits
        try:
            evidence(asked.method, asked.delta)
        except StopperError as error:
            raise InputError(f"audits: {error}") from None
        self._runtime = runtime
        self._asked = asked
        self._vault = Vault(runtime.store)
        self._log = None if asked.log is None else AuditLog(asked.log)
        self._offers: dict[str, deque[_Offer]] = {}
        self._wake = asyncio.Event()
        self._looked: dict[str, Kept] = {}
        self.alarms = Alarms(runtime.board)
        self.standings: dict[str, Standing] = {}
        self.faults: dict[str, str] = {}
        self.waiting = 0
        self.lost = 0

    def offer(self, audits: Sequence[Audit]) -> asyncio.Future[list[Fate]]:
        """Take audits of one artifact version; the future tells what became of each.

        It is done at the latest when the store is found to be away ("waiting").
        """
        future: asyncio.Future[list[Fate]] = asyncio.get_running_loop().create_future()
        version = audits[0].artifact
        if self._runtime.catalog.version(version) is None:
            self._count("unknown_artifact", len(audits))
            future.set_result(["unknown_artifact"] * len(audits))
        elif self.waiting + len(audits) > MOST_WAITING:
            self._lose(len(audits))
            future.set_result(["lost"] * len(audits))
        else:
            self.waiting += len(audits)
            self._offers.setdefault(version, deque()).append(_Offer(audits, future))
            self._wake.set()
        return future

    async def re_arm(self, version: str, by: str, why: str) -> Rearmed:
        """Take an alarm back; see `Alarms.re_arm`."""
        rearmed = await self.alarms.re_arm(version, by, why, self.faults)
        self.standings.pop(version, None)
        self.faults.pop(version, None)
        return rearmed

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Enter audits in the background; on the way out, what still waits."""
        task = asyncio.create_task(self._run(), name="audit-desk")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            with contextlib.suppress(TimeoutError, StoreUnavailable):
                async with asyncio.timeout(LAST_S):
                    await self._enter_all()
            if self.waiting:
                logger.error("%d audits are lost: the store was away to the end", self.waiting)
                self._lose(self.waiting)

    async def _run(self) -> None:
        while True:
            begun = time.monotonic()
            try:
                await self._enter_all()
                await self._look()
            except StoreUnavailable:
                self._tell_waiting()
                await asyncio.sleep(LOOK_S)
            except Exception:  # audits must not end for one fault of ours
                logger.exception("fault at the audit desk")
                self._runtime.metrics.fail_open.labels("audits").inc()
                await asyncio.sleep(LOOK_S)
            await asyncio.sleep(min(REST * (time.monotonic() - begun), LOOK_S / 4))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            self._wake.clear()

    def _tell_waiting(self) -> None:
        for offers in self._offers.values():
            for offer in offers:
                if not offer.fates.done():
                    offer.fates.set_result(["waiting"] * len(offer.audits))

    async def _enter_all(self) -> None:
        for version, offers in list(self._offers.items()):
            while offers:
                batch = [offers[0]]
                audits = list(offers[0].audits)
                for offer in list(offers)[1:]:
                    if len(audits) + len(offer.audits) > MOST_AT_ONCE:
                        break
                    batch.append(offer)
                    audits += offer.audits
                fates = await self._enter(version, audits)
                self.waiting -= len(audits)
                for offer in batch:
                    offers.popleft()
                    if not offer.fates.done():
                        offer.fates.set_result(fates[: len(offer.audits)])
                    del fates[: len(offer.audits)]

    async def _enter(self, version: str, audits: list[Audit]) -> list[Fate]:
        served = self._runtime.catalog.version(version)
        if served is None:  # replaced while they waited
            self._count("unknown_artifact", len(audits))
            return ["unknown_artifact"] * len(audits)
        try:
            beginning, entered = await self._exchange(served, audits)
        except StoreUnavailable:
            raise
        except StopperError as error:
            self._break(version, str(error))
            self._count("refused", len(audits))
            return ["refused"] * len(audits)
        except Exception:  # one batch must not hold up all others
            logger.exception("fault at the audit desk: %d audits are lost", len(audits))
            self._runtime.metrics.fail_open.labels("audits").inc()
            self._lose(len(audits))
            return ["lost"] * len(audits)
        self.faults.pop(version, None)
        self.standings[version] = entered.standing
        counted = []
        for audit, fate in zip(audits, entered.fates, strict=True):
            if fate == "counted":
                counted.append(audit)
                self._count("bad" if audit.loss else "good")
            else:
                self._count(fate)
        if self._log is not None and not self._log.append(counted):
            self._runtime.metrics.fail_open.labels("audits_log").inc(len(counted))
        with contextlib.suppress(StoreUnavailable):  # then with the next look
            await self._alarm(beginning, entered.standing)
        return list(entered.fates)

    async def _exchange(self, served: Served, audits: list[Audit]) -> tuple[Beginning, Entered]:
        """Enter audits into the newest state; others may be faster, then again into theirs."""
        for _ in range(MOST_TRIES):
            control = await self._runtime.board.refresh()
            beginning = Beginning.of(served.version, control)
            watch = Watch.of(served, self._asked, beginning.since)
            kept = await self._vault.read(beginning)
            # Off the loop: at 100,000 remembered requests it takes some tens of milliseconds.
            entered = await asyncio.to_thread(
                watching.enter, watch, kept.head, kept.pages, audits, now()
            )
            if await self._vault.exchange(beginning, kept, entered):
                return beginning, entered
        raise StoreUnavailable(f"the state was changed by others {MOST_TRIES} times in a row")

    async def _look(self) -> None:
        """See what other replicas counted; make good an alarm that one of them left unraised."""
        for served in self._runtime.catalog.all_active():
            version = served.version
            beginning = Beginning.of(version, self._runtime.board.current)
            try:
                kept = await self._vault.look(beginning, self._looked.get(version))
            except StopperError as error:
                self._break(version, str(error))
                continue
            self._looked[version] = kept
            if kept.head is None:
                self.standings.pop(version, None)
                self.faults.pop(version, None)
            elif kept.head.standing is not None:
                self.standings[version] = kept.head.standing
                await self._alarm(beginning, kept.head.standing)

    async def _alarm(self, beginning: Beginning, standing: Standing) -> None:
        if standing.alarm and beginning.version not in self._runtime.board.current.alarms:
            await self.alarms.raise_for(beginning, standing.sentence)

    def _break(self, version: str, fault: str) -> None:
        if self.faults.get(version) != fault:
            logger.error("audits of artifact %s are not counted: %s", version, fault)
        self.faults[version] = fault

    def _lose(self, number: int) -> None:
        self.lost += number
        self._count("lost", number)

    def _count(self, outcome: str, number: int = 1) -> None:
        self._runtime.metrics.audits.labels(outcome).inc(number)
