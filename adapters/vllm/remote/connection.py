"""One exchange with the sidecar, bounded in time as a whole and in bytes."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpcore

MOST_BYTES = 8 << 20
"""Of an answer; a batch of 1024 decisions is some 300 KB."""
_SLICE = 1 << 16


class ExchangeFailed(Exception):  # noqa: N818 - reads as a sentence where it is raised
    """There is no answer; `cause` is fit for a counter's label."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete HTTP answer."""

    status: int
    content: bytes


class Connection:
    """Keeps one connection to the sidecar open.

    On httpcore, which httpx stands on: its timeouts, too, are per read, and a peer that sends a
    byte now and then would hold us for ever; here the network layer can be given the time that is
    left.

    Parameters
    ----------
    url
        Of the sidecar, without the path of the route. For https the system's certificates count
        (or those of SSL_CERT_FILE).
    api_key
        Sent as a bearer token; None sends none.

    """

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self._url = httpcore.URL(url.rstrip("/") + "/v1/stop-decisions")
        self._headers = [
            (b"Host", urlsplit(url).netloc.encode("ascii")),
            (b"Content-Type", b"application/msgpack"),
            (b"Accept", b"application/msgpack"),
            (b"User-Agent", b"stopper-vllm"),
        ]
        if api_key is not None:
            self._headers.append((b"Authorization", b"Bearer " + api_key.encode("ascii")))
        self._clock = _Clock()
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl.create_default_context() if url.startswith("https:") else None,
            max_connections=1,
            network_backend=_Backend(self._clock),
        )

    def ask(self, body: bytes, until: float) -> Reply:
        """Post a body and return the answer, whatever its status.

        Parameters
        ----------
        body
            MessagePack.
        until
            By `time.monotonic`, seconds; later nobody waits for the answer any more.

        Raises
        ------
        ExchangeFailed
            Causes: remote_unreachable, remote_late, remote_broken_off, remote_garbage.

        """
        self._clock.until = until
        try:
            return self._ask(body)
        except _Silent:
            # A kept connection may have been closed while idle. The sidecar answers a question
            # that is put twice alike, so that asking again harms nobody.
            try:
                return self._ask(body)
            except _Silent as error:
                raise ExchangeFailed("remote_unreachable", str(error)) from None

    def _ask(self, body: bytes) -> Reply:
        headers = [*self._headers, (b"Content-Length", str(len(body)).encode())]
        began = False
        try:
            with self._pool.stream("POST", self._url, headers=headers, content=body) as response:
                began = True
                return Reply(response.status, _whole(response.iter_stream()))
        except httpcore.TimeoutException as error:
            raise ExchangeFailed("remote_late", _said(error)) from None
        except httpcore.ConnectError as error:
            raise ExchangeFailed("remote_unreachable", _said(error)) from None
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            if began:
                raise ExchangeFailed("remote_broken_off", _said(error)) from None
            if isinstance(error, httpcore.NetworkError) or "disconnected" in str(error):
                raise _Silent(_said(error)) from None
            raise ExchangeFailed("remote_garbage", _said(error)) from None

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()


class _Silent(Exception):  # noqa: N818 - a state, told to `ask` alone
    """The connection ended before an answer began."""


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _whole(stream: Iterable[bytes]) -> bytes:
    parts, size = [], 0
    for part in stream:
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise ExchangeFailed("remote_garbage", f"an answer of more than {MOST_BYTES} bytes")
    return b"".join(parts)


class _Clock:
    """The time that is left for the exchange under way."""

    until = 0.0

    def left(self, late: type[Exception]) -> float:
        left = self.until - time.monotonic()
        if left <= 0:
            raise late("no answer within the deadline")
        return left


class _Stream(httpcore.NetworkStream):
    """A socket every operation of which ends when the exchange's time is over."""

    def __init__(self, inner: httpcore.NetworkStream, clock: _Clock) -> None:
        self._inner = inner
        self._clock = clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._clock.left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _SLICE):
            part = buffer[start : start + _SLICE]
            self._inner.write(part, self._clock.left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = self._clock.left(httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left), self._clock)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Opens such sockets."""

    def __init__(self, clock: _Clock) -> None:
        self._inner = httpcore.SyncBackend()
        self._clock = clock

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = self._clock.left(httpcore.ConnectTimeout)
        return _Stream(
            self._inner.connect_tcp(host, port, left, local_address, socket_options), self._clock
        )
