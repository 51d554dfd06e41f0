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


class NotConnected(ProblemError):  # noqa: N818 - reads as a sentence where it is raised
    """Nothing was sent."""


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
        pauses: dict[EngineServer, float | None] = {}
        refusal: Answer | None = None
        failure = self._all_open()
        for _ in range(self._settings.retries + 1):
            server = choose(self._servers, call.model, tried)
            pause = None if server is None else pauses.get(server, 0.0)
            if server is None or pause is None:
                break
            if refusal is not None:
                release(refusal)  # another answer is to come
                refusal = None
            if pause:
                await asyncio.sleep(pause)
            tried.append(server)
            try:
                answer = await self._send_once(server, call)
            except NotConnected as error:
                failure, pauses[server] = error, _pause(len(tried))
                continue
            if answer.response.status not in _NOT_TAKEN:
                return answer
            refusal, pauses[server] = answer, _retry_after(answer.response)
        if refusal is not None:
            return refusal
        raise failure

    def _all_open(self) -> ProblemError:
        reset = self._settings.breaker_reset_s
        return ProblemError(
            "unavailable",
            "Every engine for this model has failed repeatedly; they are tried again after "
            f"{reset:g} s.",
            headers={"Retry-After": str(max(1, int(reset)))},
        )

    async def _send_once(self, server: EngineServer, call: Call) -> Answer:
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
            slow = isinstance(error, aiohttp.ConnectionTimeoutError)
            raise NotConnected(
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
    """Return the seconds to wait; None where the server names none, or too many."""
    text = response.headers.get("retry-after", "")
    wait = float(text) if text.isascii() and text.isdigit() else PATIENCE_S + 1
    return wait if wait <= PATIENCE_S else None


def _pause(attempts: int) -> float:
    longest: float = min(1.0, 0.05 * 2.0**attempts)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311
