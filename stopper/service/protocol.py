"""The HTTP protocol of the server, with a bound on how long and how large headers may be."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from stopper.service.problems import MEDIA_TYPE, problem

HEADER_BYTES = 64 << 10


class GuardedProtocol(HttpToolsProtocol):
    """Closes a connection whose request line and headers do not come, or do not end.

    A timer runs only while headers are incomplete, so that it costs an ordinary request nothing.

    Parameters
    ----------
    header_s
        Seconds for complete headers, from the connection's or the request's first byte.

    """

    def __init__(self, *args: Any, header_s: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._header_s = header_s
        self._in_headers = True
        self._header_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a first request."""
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._disarm()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Note that headers begin."""
        super().on_message_begin()
        self._in_headers = True

    def on_headers_complete(self) -> None:
        """Note that headers are complete."""
        self._in_headers = False
        self._header_bytes = 0
        self._disarm()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Take bytes, and watch headers that did not end with them."""
        if self._in_headers:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._in_headers:
            self._header_bytes = self._header_bytes or 1  # began with the end of this data
            if self._header_bytes > HEADER_BYTES:
                self._refuse("too-large", f"Headers may have {HEADER_BYTES} bytes.")
            else:
                self._arm()
        elif self.timeout_keep_alive_task is None and self._idle():
            self._arm()  # bytes that begin no request, such as empty lines

    def send_400_response(self, msg: str) -> None:
        """Answer to what is no HTTP."""
        self._refuse("bad-request", msg)

    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _arm(self) -> None:
        if self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(self._header_s, self._late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if not self._idle():  # an earlier request on this connection is still being answered
            self._arm()
        elif self._header_bytes == 0:
            self.transport.close()
        else:
            self._refuse("timeout", f"Headers must arrive within {self._header_s:g} s.")

    def _refuse(self, name: str, detail: str) -> None:
        if self.transport.is_closing():
            return
        found = problem(name, detail)
        body = msgspec.json.encode(found)
        if self._idle():
            self.transport.write(
                STATUS_LINE[found.status]
                + b"content-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
                % (MEDIA_TYPE.encode(), len(body))
                + body
            )
        self.transport.close()
