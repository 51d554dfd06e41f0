"""Connections to the engines.

aiohttp and not httpx: its parser in C takes a fifth of the time for a streamed token, and the
front shares its machine with the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import aiohttp
from yarl import URL

from stopper.service.settings import ProxySettings

KEEP_ALIVE_S = 2.0
"""vLLM's server closes an idle connection after 5 s: one that is about to be closed is not used."""

LARGE_BODY = 1 << 20
"""aiohttp wants larger bodies in pieces."""

FAILURES = (aiohttp.ClientError, OSError)
"""Whatever goes wrong with a connection."""


@dataclass(frozen=True, slots=True)
class Told:
    """A whole response."""

    status: int
    body: bytes


class Connections:
    """A pool of connections to all engines, open while `running`.

    Reads have no timeout: `SilenceClock` watches those.
    """

    def __init__(self, settings: ProxySettings) -> None:
        self._timeout = aiohttp.ClientTimeout(total=None, connect=settings.connect_s)
        self._session: aiohttp.ClientSession | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the pool, and close it with all connections."""
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        ) as self._session:
            yield
        self._session = None

    async def post(
        self, url: str, body: bytes, headers: Iterable[tuple[bytes, bytes]]
    ) -> aiohttp.ClientResponse:
        """Send a body; return the response when its headers have come, its body unread.

        Raises
        ------
        aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError
            If no connection came about.
        aiohttp.ClientError, OSError
            If it broke.

        """
        assert self._session is not None, "the front is not running"
        return await self._session.post(
            URL(url, encoded=True),
            data=body if len(body) < LARGE_BODY else io.BytesIO(body),
            headers=[(_text(name), _text(value)) for name, value in headers],
            allow_redirects=False,
        )

    async def ask(
        self,
        method: Literal["GET", "POST"],
        url: str,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> Told:
        """Send a small request and read the whole response.

        Raises
        ------
        TimeoutError, aiohttp.ClientError, OSError
            If there is none, or not in time.

        """
        assert self._session is not None, "the front is not running"
        async with (
            asyncio.timeout(timeout_s),
            self._session.request(
                method, URL(url, encoded=True), headers=headers, allow_redirects=False
            ) as response,
        ):
            return Told(response.status, await response.read())


def _text(value: bytes) -> str:
    try:
        return value.decode()  # aiohttp encodes by UTF-8 again
    except UnicodeDecodeError:
        return value.decode("latin-1")
