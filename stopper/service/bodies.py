"""Bounds on a request's body: how many bytes, and how long they may take."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stopper.service.problems import problem, respond

Fault = Literal["too-large", "timeout"]

LINGER_S = 1.0
"""How long the rest of a refused body is read away: who still sends would lose our answer."""

_GONE: Message = {"type": "http.disconnect"}


class Bodies:
    """Answers 413 before reading beyond the bound, and 408 to a body that does not come.

    The application sees a client that has gone, and its own answer is dropped.

    Parameters
    ----------
    most
        Bytes.
    seconds
        For the whole body.

    """

    def __init__(self, app: ASGIApp, most: int, seconds: float) -> None:
        self._app = app
        self._most = most
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, its body watched."""
        length = _length(scope) if scope["type"] == "http" else 0
        if length == 0:
            await self._app(scope, receive, send)
            return
        if length is not None and length > self._most:
            await self._refuse("too-large", scope, receive, send)
            return
        body = _Body(receive, send, self._most, self._seconds)
        try:
            await self._app(scope, body.receive, body.send)
        except Exception:
            if body.fault is None or body.started:
                raise
        finally:
            body.end()
        if body.fault is not None and not body.started:
            await self._refuse(body.fault, scope, receive, send)

    async def _refuse(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        detail = (
            f"A body may have {self._most} bytes (limits.body_bytes)."
            if fault == "too-large"
            else f"A body must arrive within {self._seconds:g} s (limits.body_s)."
        )
        answer = respond(problem(fault, detail), {"Connection": "close"})
        start = {"type": "http.response.start", "status": answer.status_code}
        await send({**start, "headers": answer.raw_headers})
        await send({"type": "http.response.body", "body": answer.body, "more_body": True})
        if fault == "too-large":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    while (await receive()).get("more_body", False):
                        pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Body:
    """One timer for the whole body: `asyncio.timeout` around each part costs ten times as much."""

    __slots__ = (
        "_done", "_left", "_receive", "_seconds", "_send", "_timer", "_waiting", "fault", "started"
    )  # fmt: skip

    def __init__(self, receive: Receive, send: Send, most: int, seconds: float) -> None:
        self._receive = receive
        self._send = send
        self._left = most
        self._seconds = seconds
        self._done = False
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Task[object] | None = None
        self.fault: Fault | None = None
        self.started = False

    async def receive(self) -> Message:
        if self.fault is not None:
            return _GONE
        if self._done:  # waits for the client to go: not bounded
            return await self._receive()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._late)
        self._waiting = task = asyncio.current_task()
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if self.fault is None or task is None or task.uncancel() > 0:
                raise  # somebody else's
            return _GONE
        finally:
            self._waiting = None
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.fault = "too-large"
            return _GONE
        if not message.get("more_body", False):
            self._done = True
            self.end()
        return message

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _late(self) -> None:
        self.fault = "timeout"
        if self._waiting is not None:
            self._waiting.cancel()

    async def send(self, message: Message) -> None:
        if self.fault is not None and not self.started:
            return
        self.started = True
        await self._send(message)


def _length(scope: Scope) -> int | None:
    """Return the body's length; None where it is not told, and for nonsense the server let pass."""
    found: int | None = 0
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else None
        if name == b"transfer-encoding":
            found = None
    return found
