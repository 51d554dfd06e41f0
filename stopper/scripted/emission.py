"""Sends a run to its client, whole or in events, with the fault it is to meet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, NoReturn

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from stopper.errors import UnsupportedError
from stopper.scripted.engine import Engine, Seen
from stopper.scripted.faults import Fault
from stopper.scripted.formats import Format
from stopper.scripted.run import Token

TRANSPORT = "scripted.transport"
"""Where the scope has the connection's transport, put there by the application."""

_PIECE = 64
_GARBAGE = b'data: {"choices": [{"delta"\n\nevent\n:\xff\xfe\x00\ndata\n\n\r\r<html>'


class Emission(Response):
    """The response to a generation request; the run ends when the client goes away, as in vLLM."""

    def __init__(
        self, engine: Engine, form: Format, seen: Seen, fault: Fault | None, *, stream: bool
    ) -> None:
        self._engine = engine
        self._form = form
        self._seen = seen
        self._fault = fault
        self._stream = stream
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, and watch the client meanwhile."""
        wire = _Wire(scope, send, self._seen)
        left = asyncio.ensure_future(_left(receive))
        work = asyncio.ensure_future(self._work(wire))
        gone = False
        try:
            await asyncio.wait({left, work}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            else:
                gone = not wire.broken
        finally:
            for task in (left, work):
                task.cancel()
            await asyncio.gather(left, work, return_exceptions=True)
            self._engine.finish(self._form.run)
            self._seen.client_left = gone
            self._seen.finished = self._seen.finished and not gone

    async def _work(self, wire: _Wire) -> None:
        fault = self._fault
        kind = None if fault is None else fault.kind
        if fault is not None and kind == "delay":
            await asyncio.sleep(fault.seconds)
        if fault is not None and kind == "wrong_length":
            body = b"".join([part async for part in self._parts(whole=True)])
            await wire.raw(_response(body, len(body) + fault.by, self._media))
            return
        head = None if self._stream else b"".join([part async for part in self._parts(whole=True)])
        if fault is not None and fault.after == 0:
            await self._break(wire, fault, begun=False)
        grows = kind in ("garbage", "huge_chunk")
        await wire.start(self._media, None if head is None or grows else len(head))
        # Noted before the client can know of the end, so that whoever asks then is told.
        self._seen.finished = head is not None and fault is None
        sent = 0
        async for part in self._pieces(head):
            if fault is not None and sent == fault.after:
                await self._break(wire, fault)
            await self._send(wire, part, fault)
            sent += 1
        if fault is not None and sent <= fault.after:  # it was to come later than the end
            await self._break(wire, fault)
        self._seen.finished = True
        await wire.finish()

    async def _send(self, wire: _Wire, part: bytes, fault: Fault | None) -> None:
        if fault is None or fault.kind != "slow_drip":
            await wire.send(part)
            return
        width = fault.bytes or 1
        for at in range(0, len(part), width):
            await wire.send(part[at : at + width], counts=at == 0)
            await asyncio.sleep(fault.seconds)

    async def _break(self, wire: _Wire, fault: Fault, *, begun: bool = True) -> None:
        """Do what the fault does at this place."""
        if fault.kind == "hang":
            await asyncio.Event().wait()
        if fault.kind == "close":
            await wire.close()
        if fault.kind == "half_close" and begun:
            await wire.half_close()
        if fault.kind == "garbage" and begun:
            await wire.send(_GARBAGE)
        if fault.kind == "huge_chunk" and begun:
            size = fault.bytes or 1 << 20
            # A whole response stays JSON: it begins with so many spaces.
            huge = self._form.token(Token(0, "x" * size, "thinking")) if self._stream else []
            await wire.send(b"".join(huge) or b" " * size)

    @property
    def _media(self) -> bytes:
        return b"text/event-stream; charset=utf-8" if self._stream else b"application/json"

    async def _pieces(self, head: bytes | None) -> AsyncGenerator[bytes, None]:
        if head is None:
            async with aclosing(self._parts(whole=False)) as parts:
                async for part in parts:
                    yield part
            return
        width = _PIECE if self._fault is not None else max(1, len(head))
        for at in range(0, len(head), width):
            yield head[at : at + width]

    async def _parts(self, *, whole: bool) -> AsyncGenerator[bytes, None]:
        """Yield the events; those of a whole response are thrown away for its document."""
        form = self._form
        stream = self._stream
        if stream:
            for part in form.begin():
                yield part
        tokens = form.run.tokens(self._engine.script, self._engine.tokenizer, self._engine.sidecar)
        async for token in tokens:
            for part in form.token(token):
                if stream:
                    yield part
        self._engine.finish(form.run)
        if not stream:
            yield msgspec.json.encode(form.document())
            return
        for part in form.end():
            yield part
        if self._fault is None or self._fault.kind != "no_done":
            for part in form.last():
                yield part


class _Wire:
    """The connection: ASGI for what is regular, the transport for what is not."""

    def __init__(self, scope: Scope, send: Send, seen: Seen) -> None:
        self._scope = scope
        self._asgi = send
        self._seen = seen
        self.broken = False

    async def start(self, media: bytes, length: int | None) -> None:
        headers = [(b"content-type", media)]
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        self._seen.status = 200
        await self._asgi({"type": "http.response.start", "status": 200, "headers": headers})

    async def send(self, part: bytes, *, counts: bool = True) -> None:
        self._seen.events_sent += counts
        await self._asgi({"type": "http.response.body", "body": part, "more_body": True})

    async def finish(self) -> None:
        await self._asgi({"type": "http.response.body", "body": b"", "more_body": False})

    async def raw(self, data: bytes) -> None:
        """Write bytes past the server's HTTP, then close."""
        self._seen.status = 200
        self._transport.write(data)
        await self.close()

    async def close(self) -> NoReturn:
        """End the connection; what was written is delivered."""
        self._transport.close()
        await self._be_gone()

    async def half_close(self) -> NoReturn:
        """End our side; the client's goes on until the client ends it."""
        self._transport.write_eof()
        await self._be_gone()

    async def _be_gone(self) -> NoReturn:
        """Wait to be cancelled: by then the server knows of the end, and misses no response."""
        self.broken = True
        while True:
            await asyncio.sleep(3600)

    @property
    def _transport(self) -> asyncio.WriteTransport:
        found: Any = self._scope.get(TRANSPORT)
        if found is None:
            raise UnsupportedError(
                "this fault breaks the connection, so it needs a real server: `serving(app)`"
            )
        transport: asyncio.WriteTransport = found
        return transport


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _response(body: bytes, length: int, media: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: " + media
    return head + b"\r\ncontent-length: " + str(max(0, length)).encode() + b"\r\n\r\n" + body
