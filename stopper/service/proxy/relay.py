"""One request's way through the front: to an engine, and its response back to the client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
import anyio
import msgspec
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from stopper.service.problems import ProblemError
from stopper.service.proxy import errors, insertion, reports
from stopper.service.proxy.bookkeeping import Books
from stopper.service.proxy.connections import FAILURES
from stopper.service.proxy.finished import FinishedRequest
from stopper.service.proxy.headers import to_client
from stopper.service.proxy.options import Prepared
from stopper.service.proxy.reports import Reporter, Told
from stopper.service.proxy.sending import Answer, Call, Sender, release
from stopper.service.proxy.silence_clock import SilenceClock
from stopper.service.proxy.tail import StreamTail, Style
from stopper.service.proxy.token_ids import TokenIds
from stopper.service.settings import ProxySettings
from stopper.wire import ContextReport

logger = logging.getLogger(__name__)

MOST_JSON = 64 << 20
"""A larger response that is no stream goes on unread, without a report."""


@dataclass(frozen=True, slots=True)
class Front:
    """What all requests through the front share."""

    sender: Sender
    reporter: Reporter
    books: Books
    settings: ProxySettings


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Whole(msgspec.Struct):
    """A response that is no stream; `status` is the Responses API's."""

    id: str | None = None
    status: str | None = None
    choices: list[_Choice] = []


_whole = msgspec.json.Decoder(_Whole).decode
_RUNNING = ("queued", "in_progress")


class Relay(Response):
    """Answers with what the engine answers.

    If the client goes, the connection to the engine is closed at once, and vLLM ends the request.
    If the engine breaks off or falls silent in the middle, the client's connection is broken off as
    well, as it would be without the front: a stream that is cut short must not look whole.

    Parameters
    ----------
    call, prepared
        What goes to the engine, and what the client asked.
    request_id
        Of X-Request-Id.
    style
        Of the route's streams.
    authorization
        Of the client, where it may be passed on.
    context
        What was done with the request's documents; None where it has none.

    """

    background = None

    def __init__(
        self,
        front: Front,
        call: Call,
        prepared: Prepared,
        *,
        request_id: str,
        style: Style,
        authorization: str | None,
        context: ContextReport | None = None,
    ) -> None:
        self._front = front
        self._call = call
        self._prepared = prepared
        self._request_id = request_id
        self._style: Style = style
        self._authorization = authorization
        self._context = context
        self._ids = TokenIds(strip=prepared.strip_ids) if prepared.audited else None
        self._answer: Answer | None = None
        self._tail: StreamTail | None = None
        self._started = False
        self._told: Told | None = None
        self._response_id: str | None = None
        self._finish_reason: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request."""
        refused: ProblemError | None = None
        try:
            with anyio.CancelScope() as life:
                clock = SilenceClock(life.cancel)
                watch = asyncio.create_task(_cancel_when_gone(receive, life))
                try:
                    await self._relay(send, clock)
                except ProblemError as error:
                    refused = error
                finally:
                    watch.cancel()
                    clock.close()
            if clock.expired:
                refused = self._fell_silent(clock.limit_s)
        finally:
            if self._answer is not None:
                release(self._answer)
        self._count(refused)
        if refused is not None:
            await self._refuse(refused, scope, receive, send)
        elif self._told is not None:
            self._front.books.enter(self._finished(self._told), self._prepared)
        if self._prepared.audited and (refused is not None or self._told is None):
            self._front.books.miss_audit()

    async def _relay(self, send: Send, clock: SilenceClock) -> None:
        clock.start(self._front.settings.first_byte_s)
        self._answer = answer = await self._front.sender.send(self._call)
        response = answer.response
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        plain = response.headers.get("content-encoding", "identity") == "identity"
        chunks = self._chunks(answer, clock)
        if response.status == 200 and plain and kind == "text/event-stream":
            await self._stream(answer, chunks, send)
        elif response.status == 200 and plain and kind == "application/json":
            await self._object(answer, chunks, send)
        else:
            await self._pass(answer, chunks, send)

    async def _chunks(self, answer: Answer, clock: SilenceClock) -> AsyncIterator[bytes]:
        idle = self._front.settings.idle_s
        try:
            async for chunk in answer.response.content.iter_any():
                clock.stop()
                yield chunk
                clock.start(idle)
        except FAILURES as error:
            answer.server.failed(error)
            logger.warning("engine %s: broke off: %r", answer.server.url, error)
            raise ProblemError(
                "upstream-failed", "The engine broke off before the response was whole."
            ) from error
        clock.stop()

    async def _stream(self, answer: Answer, chunks: AsyncIterator[bytes], send: Send) -> None:
        self._tail = tail = StreamTail(self._style, self._ids)
        ended = False
        async for chunk in chunks:
            passed = tail.feed(chunk)
            if tail.over and not ended:
                ended = True
                passed += await self._end(answer, tail)
            if passed:
                if not self._started:
                    await self._start(answer, send, None)
                await send(_part(passed))
        rest = tail.finish(None) if ended else await self._end(answer, tail)
        if not self._started:
            await self._start(answer, send, None)
        await send({"type": "http.response.body", "body": rest, "more_body": False})

    async def _end(self, answer: Answer, tail: StreamTail) -> bytes:
        if not tail.has_end:
            return tail.finish(None)
        self._response_id, self._finish_reason = tail.response_id, tail.finish_reason
        self._told = await self._ask(answer)
        return tail.finish(self._told.report)

    async def _object(self, answer: Answer, chunks: AsyncIterator[bytes], send: Send) -> None:
        parts, size = [], 0
        async for chunk in chunks:
            parts.append(chunk)
            size += len(chunk)
            if size > MOST_JSON and self._ids is None:
                await self._start(answer, send, _length(answer.response))
                await send(_part(b"".join(parts)))
                await self._pass(answer, chunks, send)
                return
        body = b"".join(parts)
        try:
            found = _whole(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            logger.warning("engine %s: sent JSON that is none", answer.server.url)
        else:
            if self._ids is not None:
                body = self._ids.take_from_object(body)
            self._response_id = found.id
            self._finish_reason = found.choices[0].finish_reason if found.choices else found.status
            if found.status in _RUNNING:
                told = self._with_context(reports.unknown("still_running"))
            else:
                told = self._told = await self._ask(answer)
            body = insertion.into_object(body, told.report) or body
        await self._start(answer, send, len(body))
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _pass(self, answer: Answer, chunks: AsyncIterator[bytes], send: Send) -> None:
        async for chunk in chunks:
            if not self._started:
                await self._start(answer, send, _length(answer.response))
            await send(_part(chunk))
        if not self._started:
            await self._start(answer, send, _length(answer.response))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _ask(self, answer: Answer) -> Told:
        if self._prepared.off is not None:
            return self._with_context(reports.off(self._prepared.off))
        told = await self._front.reporter.ask(
            answer.server,
            self._response_id,
            self._prepared.model,
            answer.server.headers(self._authorization),
            audited=self._prepared.audit,
        )
        return self._with_context(told)

    def _with_context(self, told: Told) -> Told:
        if self._context is None:
            return told
        report = msgspec.structs.replace(told.report, context=self._context)
        return Told(report, told.record)

    async def _start(self, answer: Answer, send: Send, length: int | None) -> None:
        self._started = True
        response = answer.response
        headers = to_client(response.raw_headers, self._request_id, length)
        message: Message = {
            "type": "http.response.start", "status": response.status, "headers": headers,
        }  # fmt: skip
        await send(message)

    def _count(self, refused: ProblemError | None) -> None:
        """Count the response, unless the client left before it began."""
        if refused is not None:
            self._front.books.responded(None if self._started else refused.problem.status)
        elif self._started and self._answer is not None:
            self._front.books.responded(self._answer.response.status)

    def _fell_silent(self, limit_s: float) -> ProblemError:
        if self._call.server is not None:
            self._call.server.failed(TimeoutError())
            logger.warning("engine %s: silent for too long", self._call.server.url)
        return ProblemError(
            "upstream-timeout", f"The engine was silent for longer than {limit_s:g} s."
        )

    async def _refuse(
        self, refused: ProblemError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if not self._started:
            await errors.respond(refused)(scope, receive, send)
        elif self._tail is not None:
            rest = self._tail.finish(None)
            if rest:
                await send(_part(rest))
            # and no last part: the server breaks the connection off

    def _finished(self, told: Told) -> FinishedRequest:
        assert self._answer is not None
        server, ids = self._answer.server, self._ids
        prompt, output = None, None
        if ids is not None and ids.complete and ids.prompt is not None:
            prompt, output = ids.prompt, tuple(ids.output)
        return FinishedRequest(
            request_id=self._request_id,
            response_id=self._response_id,
            model=self._prepared.model,
            path=self._call.path,
            upstream=server.url,
            upstream_headers=server.headers(self._authorization),
            audited=prompt is not None,
            prompt_token_ids=prompt,
            output_token_ids=output,
            record=told.record,
            report=told.report,
            time=datetime.now(UTC),
            finish_reason=self._finish_reason,
        )


async def _cancel_when_gone(receive: Receive, life: anyio.CancelScope) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            life.cancel()
            return


def _part(data: bytes) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": True}


def _length(response: aiohttp.ClientResponse) -> int | None:
    text = response.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None
