"""Compresses in a thread of its own, so that the event loop goes on deciding.

One at a time in each process: the encoder takes all cores it is given, and what waits longer than
the deadline is given up before it has begun.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from stopper.context import Compressed, ContextTimeoutError, Deadline, Document, Limits
from stopper.context.filters import SentenceFilter, make_filter
from stopper.errors import InputError, StopperError
from stopper.service.metrics import Metrics
from stopper.service.settings import ContextSettings
from stopper.wire import ContextFault

logger = logging.getLogger(__name__)

Source = Literal["endpoint", "front"]

MOST_WAITING = 32
"""More than so many at a time are not taken in."""

MOST_CHARACTERS = 8_000_000
"""Of all documents of a request; the body is bounded by `limits.body_bytes` as well."""


class CompressorFault(StopperError):  # noqa: N818 - reads as a sentence where it is raised
    """Nothing was compressed.

    Attributes
    ----------
    fault
        Why, in one word.

    """

    def __init__(self, fault: ContextFault, detail: str) -> None:
        super().__init__(detail)
        self.fault: ContextFault = fault


class Compressor:
    """What compresses in this process.

    Parameters
    ----------
    settings
        `[context]`.
    metrics
        Told of every compression.

    Attributes
    ----------
    filter
        Loaded when the sidecar is made.

    Raises
    ------
    StopperError
        If the artifact or a package is missing or wrong.

    """

    def __init__(self, settings: ContextSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._limits = Limits(
            documents=settings.most_documents,
            document_characters=MOST_CHARACTERS,
            characters=MOST_CHARACTERS,
        )
        self.filter: SentenceFilter = make_filter(
            settings.scorer,
            settings.artifact,
            alpha=settings.alpha,
            threshold=settings.threshold,
        )
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="compress")
        self._waiting = 0

    def warm(self) -> None:
        """Load what the first compression would load."""
        self.filter.compress("Is it warm?", [Document("", "It is. It was not.")])

    async def compress(
        self,
        source: Source,
        query: str,
        documents: Sequence[Document],
        threshold: float | None = None,
        alpha: float | None = None,
        floor: int | None = None,
    ) -> Compressed:
        """Compress, in the worker thread.

        Raises
        ------
        InputError
            If an argument is wrong.
        CompressorFault
            If it is too large, takes too long, too many wait, or there is a fault.

        """
        begun = time.perf_counter()
        try:
            found = await self._run(query, documents, threshold, alpha, floor)
        except CompressorFault as error:
            self._metrics.context_faults.labels(source, error.fault).inc()
            raise
        self._metrics.context_seconds.observe(time.perf_counter() - begun)
        self._metrics.context_compressions.labels(source, found.reason).inc()
        self._metrics.context_tokens_in.inc(found.tokens_in)
        self._metrics.context_tokens_out.inc(found.tokens_out)
        return found

    async def _run(
        self,
        query: str,
        documents: Sequence[Document],
        threshold: float | None,
        alpha: float | None,
        floor: int | None,
    ) -> Compressed:
        try:
            self._limits.check(query, documents)
        except InputError as error:
            raise CompressorFault("too_large", f"{error} (context.most_documents).") from None
        self.filter.threshold(threshold, alpha)
        if self._waiting >= MOST_WAITING:
            raise CompressorFault("busy", f"{self._waiting} compressions wait already; try again.")
        seconds = self._settings.timeout_s
        deadline = Deadline.after(seconds)

        def work() -> Compressed:
            deadline.check()
            least = self._settings.floor if floor is None else floor
            return self.filter.compress(
                query, documents, threshold, alpha, least, limits=self._limits, deadline=deadline
            )

        self._waiting += 1
        running = asyncio.get_running_loop().run_in_executor(self._pool, work)
        running.add_done_callback(self._done)
        late = f"Compressing took longer than {seconds:g} s (context.timeout_s)."
        try:
            return await asyncio.wait_for(asyncio.shield(running), seconds)
        except (TimeoutError, ContextTimeoutError):
            raise CompressorFault("timeout", late) from None
        except InputError:
            raise
        except Exception as error:
            logger.exception("a compression failed")
            raise CompressorFault("fault", "Compressing failed; the log says why.") from error

    def unusable(self, source: Source) -> None:
        """Count a request that cannot be compressed by what it says."""
        self._metrics.context_faults.labels(source, "fault").inc()

    def _done(self, running: asyncio.Future[Compressed]) -> None:
        self._waiting -= 1
        if not running.cancelled():
            running.exception()  # nobody may be waiting for it any more

    def close(self) -> None:
        """Take nothing more; what runs ends by its deadline."""
        self._pool.shutdown(wait=False, cancel_futures=True)
