"""Asks the sidecar from a thread of its own, so that no engine step ever waits for it."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from dataclasses import dataclass, replace

import msgspec

from adapters.vllm.remote.answers import Answer, Garbage, read_answers, read_problem
from adapters.vllm.remote.breaker import Breaker
from adapters.vllm.remote.connection import Connection, ExchangeFailed
from stopper.wire import MAX_BATCH, DecisionBatch, DecisionEvent

logger = logging.getLogger(__name__)

MOST_BATCH_BYTES = 4 << 20
"""Of hidden states in one batch; the sidecar takes bodies up to 16 MiB."""


@dataclass(frozen=True, slots=True)
class Question:
    """An event, and until when its answer is of use (`time.monotonic`, seconds)."""

    event: DecisionEvent
    until: float

    def lost(self, cause: str) -> Answer:
        """Return that there is no decision on it."""
        return Answer(self.event.request_id, self.event.position, None, cause)


class Sender:
    """A queue, a thread that empties it into batches, and a deque of answers.

    The engine's thread calls `offer` and takes from `answers`, and neither ever waits. One batch
    is under way at a time: the events of a trace arrive at the sidecar in their order. While the
    breaker is open the thread sleeps and nothing is queued.

    Parameters
    ----------
    connection
        To the sidecar.
    capacity
        Events that may wait; more are refused.
    version
        The artifact's short name that decisions must carry; None takes any.
    breaker
        When to leave the sidecar alone.

    Attributes
    ----------
    answers
        One for every event that was taken, in the order in which they were settled.

    """

    def __init__(
        self,
        connection: Connection,
        *,
        capacity: int = 512,
        version: str | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        self._connection = connection
        self._capacity = capacity
        self._version = version
        self._breaker = breaker or Breaker()
        self._waiting: queue.SimpleQueue[Question | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._told: set[str] = set()
        self._encoder = msgspec.msgpack.Encoder()
        self.answers: deque[Answer] = deque()

    @property
    def open(self) -> bool:
        """Whether asking makes sense now; a look costs a fraction of a microsecond."""
        return self._breaker.closed

    def offer(self, question: Question) -> str | None:
        """Take an event to be sent; return the cause for which it is not taken, if so."""
        if not self._breaker.closed:
            return "remote_breaker_open"
        if self._waiting.qsize() >= self._capacity:
            return "remote_queue_full"
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="stopper-remote", daemon=True)
            self._thread.start()
        self._waiting.put(question)
        return None

    def close(self, patience_s: float = 1.0) -> None:
        """End the thread, if it can be ended in time; it is a daemon otherwise."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(patience_s)

    def _run(self) -> None:
        going = True
        while going:
            batch, going = self._take()
            if batch:
                self._settle(batch)
        self._connection.close()

    def _take(self) -> tuple[list[Question], bool]:
        """Wait for an event and take what waits behind it; the second says whether to go on."""
        batch: list[Question] = []
        size = 0
        wait = True
        while len(batch) < MAX_BATCH and size < MOST_BATCH_BYTES:
            try:
                question = self._waiting.get(wait)
            except queue.Empty:
                break
            if question is None:
                return batch, False
            wait = False
            if question.until <= time.monotonic():  # waited behind a slow answer
                self.answers.append(question.lost("remote_late"))
                wait = not batch
                continue
            batch.append(question)
            state = question.event.hidden_state
            size += len(state.data) if state else 0
        return batch, True

    def _settle(self, batch: list[Question]) -> None:
        try:
            answers = self._ask(batch)
        except ExchangeFailed as error:
            self._fail(batch, error.cause, str(error))
        except Exception as error:  # ours; the thread must live on
            logger.exception("stopper: fault while asking the sidecar")
            self._fail(batch, "remote_fault", str(error))
        else:
            self.answers.extend(answers)
            if self._breaker.succeeded():
                logger.warning("stopper: the sidecar answers again")
                self._told.clear()

    def _ask(self, batch: list[Question]) -> list[Answer]:
        events = [question.event for question in batch]
        body = self._encoder.encode(DecisionBatch(events))
        reply = self._connection.ask(body, max(question.until for question in batch))
        now = time.monotonic()
        if reply.status != 200:
            detail = f"HTTP {reply.status}{read_problem(reply.content)}"
            raise ExchangeFailed(f"remote_http_{reply.status}", detail)
        try:
            answers = read_answers(events, reply.content, self._version)
        except Garbage as error:
            raise ExchangeFailed("remote_garbage", str(error)) from None
        return [
            self._judged(question, answer, now)
            for question, answer in zip(batch, answers, strict=True)
        ]

    def _judged(self, question: Question, answer: Answer, now: float) -> Answer:
        if answer.cause is None:
            return answer if now <= question.until else replace(answer, cause="remote_late")
        if answer.cause not in self._told:
            self._told.add(answer.cause)
            decision = answer.decision
            problem = decision.problem if decision else None
            logger.warning(
                "stopper: decisions of the sidecar are not carried out (%s): %s",
                answer.cause,
                problem.detail or problem.title
                if problem
                else f"made by artifact {decision.artifact if decision else None}, here is "
                f"{self._version}",
            )
        return answer

    def _fail(self, batch: list[Question], cause: str, detail: str) -> None:
        self.answers.extend(question.lost(cause) for question in batch)
        pause = self._breaker.failed()
        if not pause:
            return
        if "breaker" not in self._told:
            self._told.add("breaker")
            logger.warning(
                "stopper: no decisions from the sidecar (%s: %s); requests go on unstopped, and "
                "it is asked again from time to time",
                cause,
                detail,
            )
        self._empty()

    def _empty(self) -> None:
        """Give up what waits: the breaker is open."""
        for _ in range(self._waiting.qsize()):
            question = self._waiting.get()
            if question is None:
                self._waiting.put(None)
            else:
                self.answers.append(question.lost("remote_breaker_open"))
