"""Turns finished requests of the OpenAI-compatible front into audits, in the background.

Whether a request is left out is decided before anybody looks at its mark, and audits reach the desk
in the order in which the requests finished. Otherwise the figures would be of requests chosen by
what became of them. So a follow-up that fails is tried again while its engine is away, others wait
behind it, and when too many wait, new requests are left out, marked or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import msgspec
from pydantic import ValidationError

from calibration.monitor import Audit
from stopper.errors import StopperError
from stopper.service.audits.desk import Desk
from stopper.service.audits.follow_up import FollowUpFailed, FollowUps
from stopper.service.audits.judging import Judge, Record
from stopper.service.proxy.finished import FinishedRequest
from stopper.service.runtime import Runtime

logger = logging.getLogger(__name__)

MOST_WAITING = 256
MOST_TOKENS = 2_000_000
"""Of those that wait; a token takes up to 40 bytes."""

AT_ONCE = 4
PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Before each further try; the last one for ever, while the engine is away."""

MOST_TRIES = 5
"""While the engine is there and not busy: then its failure is this request's own."""

LAST_S = 3.0
"""Seconds for follow-ups under way when the sidecar ends."""


@dataclass(eq=False, slots=True)
class _Job:
    request: FinishedRequest
    record: Record
    judge: Judge
    done: asyncio.Future[Audit | None]


class Auditor:
    """Listens to finished requests."""

    def __init__(self, runtime: Runtime, desk: Desk) -> None:
        self._runtime = runtime
        self._desk = desk
        self._judges: dict[str, Judge | str] = {}
        self._todo: asyncio.Queue[_Job] = asyncio.Queue()
        self._line: deque[_Job] = deque()
        self._more = asyncio.Event()
        self._tokens = 0
        self._open = False
        self._follow_ups: FollowUps | None = None
        runtime.finished.listen(self.heard)

    @property
    def waiting(self) -> int:
        """Requests whose audit is not at the desk yet."""
        return len(self._line)

    def heard(self, request: FinishedRequest) -> None:
        """Take a finished request in; never waits."""
        if not request.audited:
            return
        outcome = self._take(request)
        if outcome is not None:
            self._count(outcome)

    def _take(self, request: FinishedRequest) -> str | None:
        """Put a request in the line; return why it is left out."""
        if not self._open:
            return "lost"
        if len(self._line) >= MOST_WAITING or self._tokens >= MOST_TOKENS:
            return "queue_full"  # however long this one is
        if request.record is None:
            return "no_record"
        if request.prompt_token_ids is None or not request.output_token_ids:
            return "no_token_ids"
        try:
            record = msgspec.convert(request.record, Record)
        except msgspec.ValidationError as error:
            logger.warning("engine %s: its record lacks a field: %s", request.upstream, error)
            return "no_record"
        if record.decision not in ("marked", "not_stopped"):
            return "not_applied"
        judge = self.judge(record.artifact)
        if isinstance(judge, str):
            return judge
        job = _Job(request, record, judge, asyncio.get_running_loop().create_future())
        self._line.append(job)
        self._tokens += _size(request)
        self._more.set()
        if record.marked:
            self._todo.put_nowait(job)
        else:
            job.done.set_result(self._audit(job, 0))
        return None

    def judge(self, version: str) -> Judge | str:
        """Return who judges an artifact's requests, or the outcome of those that nobody can."""
        known = self._judges.get(version)
        if known is None:
            served = self._runtime.catalog.version(version)
            if served is None:
                return "unknown_artifact"
            try:
                known = Judge.of(served)
            except StopperError as error:
                logger.warning("no live audits: %s", error)
                known = "needs_gold" if served.record.loss != "disagree" else "not_auditable"
            self._judges[version] = known
        return known

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Audit in the background."""
        proxy = self._runtime.settings.proxy
        timeout = httpx.Timeout(proxy.idle_s, connect=proxy.connect_s)
        # Our own connections: a follow-up must not take the place of a client's request.
        async with httpx.AsyncClient(timeout=timeout, limits=_limits()) as client:
            self._follow_ups = FollowUps(client)
            if self._runtime.settings.audits.share > 0 and self._runtime.settings.upstreams:
                for served in self._runtime.catalog.all_active():
                    # What compares answers is slow to import, and says here if it is missing.
                    await asyncio.to_thread(self.judge, served.version)
            deliverer = asyncio.create_task(self._deliver(), name="audits")
            workers = [asyncio.create_task(self._work(), name="audit") for _ in range(AT_ONCE)]
            self._open = True
            try:
                yield
            finally:
                self._open = False
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LAST_S):
                        while self._line:
                            await asyncio.wait([self._line[0].done])
                            await asyncio.sleep(0)
                for task in (deliverer, *workers):
                    task.cancel()
                await asyncio.gather(deliverer, *workers, return_exceptions=True)
                if self._line:
                    logger.warning("%d audits are lost: the sidecar ends", len(self._line))
                    self._count("lost", len(self._line))

    async def _deliver(self) -> None:
        """Bring audits to the desk in their order."""
        while True:
            while self._line:
                audit = await self._line[0].done
                if audit is not None:
                    self._desk.offer([audit])
                self._tokens -= _size(self._line.popleft().request)
            self._more.clear()
            await self._more.wait()

    async def _work(self) -> None:
        while True:
            job = await self._todo.get()
            try:
                audit = await self._judged(job)
            except Exception:  # one audit must not end all others
                logger.exception("fault in an audit")
                self._runtime.metrics.fail_open.labels("audits").inc()
                self._count("lost")
                audit = None
            job.done.set_result(audit)

    async def _judged(self, job: _Job) -> Audit | None:
        """Compare the answer at the mark with the full one, however long that takes."""
        tries = pause = 0
        follow_ups = self._follow_ups
        assert follow_ups is not None
        while True:
            try:
                return self._audit(job, await self._loss(job, follow_ups))
            except FollowUpFailed as failure:
                if not failure.busy and await follow_ups.healthy(job.request):
                    tries += 1
                if failure.final or tries >= MOST_TRIES:
                    # Stopped there it would have got no answer either.
                    logger.warning("no answer at a mark, which counts as bad: %s", failure)
                    self._lacks("engine")
                    return self._audit(job, 1)
                logger.warning("an audit waits: %s", failure)
            await asyncio.sleep(PAUSES_S[min(pause, len(PAUSES_S) - 1)])
            pause += 1

    async def _loss(self, job: _Job, follow_ups: FollowUps) -> int:
        judge, request, position = job.judge, job.request, job.record.position
        assert request.output_token_ids is not None
        if position is None or not 0 < position <= len(request.output_token_ids):
            raise FollowUpFailed(f"the mark is at {position}, beyond the output", final=True)
        text = await follow_ups.text(request, judge.answer_ids(request))
        full = judge.full(text)
        if full is None:
            self._lacks("full")
            return 1
        most = judge.closing.max_answer_tokens
        said = await follow_ups.answer(request, judge.prompt(request, position), most)
        forced = judge.forced(said)
        if forced is None:
            self._lacks("forced")
            return 1
        # Off the loop: an equality may be decided by computer algebra.
        return int(not await asyncio.to_thread(judge.comparer.same, forced, full))

    def _audit(self, job: _Job, loss: int) -> Audit | None:
        try:
            return job.judge.audit(job.request, job.record, loss)
        except ValidationError as error:
            logger.warning("engine %s: its record contradicts itself: %s", job.request.upstream,
                           "; ".join(fault["msg"] for fault in error.errors()))  # fmt: skip
            self._count("no_record")
            return None

    def _lacks(self, which: str) -> None:
        self._runtime.metrics.audits_without_answer.labels(which).inc()

    def _count(self, outcome: str, number: int = 1) -> None:
        self._runtime.metrics.audits.labels(outcome).inc(number)


def _size(request: FinishedRequest) -> int:
    return len(request.prompt_token_ids or ()) + len(request.output_token_ids or ())


def _limits() -> httpx.Limits:
    return httpx.Limits(max_connections=AT_ONCE * 2)
