"""Sends a request to an engine, to another one where the first did not take it.

The rule: a request is sent again only if no engine can have begun on it. That is so

- where no connection came about, and
- where the server answered 503 or 429, which say that it was not taken: once more on another
  server at once, or on the same one after the Retry-After it names, if that is at most
  `PATIENCE_S`.

A connection that breaks after the request was sent, a 502 or 504 (a gateway between may have handed
the request on), and a timeout are never sent again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp

from stopper.service.problems import ProblemError
from stopper.service.proxy.connections import FAILURES, Connections
from stopper.service.proxy.headers import Headers
from stopper.service.proxy.servers import EngineServer, choose
from stopper.service.settings import ProxySettings

PATIENCE_S = 2.0
"""The longest Retry-After that is waited for; a longer one is the client's to honour."""

_NOT_TAKEN = (429, 503)
_FAILED = (502, 503, 504)


@dataclass(slots=True)
class Call:
    """What is sent, and the server that has it at present."""

    path: str
    query: bytes
    body: bytes
    model: str
    headers: Callable[[EngineServer], Headers]
    server: EngineServer | None = None


@dataclass(slots=True)
class Answer:
    """An engine's response whose body has not been read."""

    server: EngineServer
    response: aiohttp.ClientResponse


class Sender:
    """Finds a server that takes a request."""

    def __init__(
        self, connections: Connections, servers: Sequence[EngineServer], settings: ProxySettings
    ) -> None:
        self._connections = connections
        self._servers = servers
        self._settings = settings

    async def send(self, call: Call) -> Answer:
        """Return the first answer of a server that took the request, or the last refusal.

        The answer counts as running on its server until `release`. The caller watches the clock
        from the moment the request is sent.

        Raises
        ------
        ProblemError
            503 where every breaker is open, 502 where no connection came about or it broke, 504
            where none came about in time.

        """
        tried: list[EngineServer] = []
        refused: Answer | None = None
        left = self._settings.retries
        try:
            while True:
                server = choose(self._servers, call.model, tried)
                if server is None:
                    if refused is not None:
                        break
                    raise ProblemError(
                        "unavailable",
                        "Every engine for this model has failed repeatedly; it is tried again "
                        f"after {self._settings.breaker_reset_s:g} s.",
                        headers={"Retry-After": str(max(1, int(self._settings.breaker_reset_s)))},
                    )
                if refused is not None and not await self._worth_waiting(refused, server):
                    break
                if refused is not None:
                    release(refused)
                    refused = None
                answer = await self._send_once(server, call, last=left == 0)
                if answer is not None:
                    if answer.response.status not in _NOT_TAKEN or left == 0:
                        return answer
                    refused = answer
                elif server in tried:
                    await asyncio.sleep(_pause(len(tried)))
                tried.append(server)
                left -= 1
        except BaseException:
            if refused is not None:
                release(refused)
            raise
        assert refused is not None
        return refused

    async def _worth_waiting(self, refused: Answer, server: EngineServer) -> bool:
        if server is not refused.server:
            return True
        wait = _retry_after(refused.response)
        if wait is None or wait > PATIENCE_S:
            return False
        await asyncio.sleep(wait)
        return True

    async def _send_once(self, server: EngineServer, call: Call, *, last: bool) -> Answer | None:
        url = f"{server.url}{call.path}"
        if call.query:
            url += "?" + call.query.decode("latin-1")
        call.server = server
        server.running += 1
        kept = False
        try:
            response = await self._connections.post(url, call.body, call.headers(server))
            kept = True
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            server.failed(error)
            if not last:
                return None
            slow = isinstance(error, aiohttp.ConnectionTimeoutError)
            raise ProblemError(
                "upstream-timeout" if slow else "upstream-failed",
                "No connection to an engine came about"
                + (f" within {self._settings.connect_s:g} s." if slow else "."),
            ) from error
        except FAILURES as error:
            server.failed(error)
            raise ProblemError(
                "upstream-failed",
                "The engine broke off before it answered; the request may have been begun, so it "
                "was not sent again.",
            ) from error
        finally:
            if not kept:
                server.running -= 1
        if response.status in _FAILED:
            server.failed(ConnectionError(f"status {response.status}"))
        else:
            server.succeeded()
        return Answer(server, response)


def release(answer: Answer) -> None:
    """Give an answer's connection back, or close it at once if there is more to come on it."""
    answer.server.running -= 1
    answer.response.close()


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else None


def _pause(attempts: int) -> float:
    longest: float = min(1.0, 0.05 * 2.0**attempts)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311
