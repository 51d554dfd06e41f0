"""What the engines serve: asked for in the background, and merged for `/v1/models`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence

import msgspec

from stopper.service.problems import ProblemError
from stopper.service.proxy.connections import FAILURES, Connections
from stopper.service.proxy.servers import EngineServer

logger = logging.getLogger(__name__)

EVERY_S = 15.0
TIMEOUT_S = 5.0
LEAST_S = 1.0
"""At least so much lies between two looks that an unknown model causes."""


class _Card(msgspec.Struct):
    id: str
    root: str | None = None


class _List(msgspec.Struct):
    data: list[msgspec.Raw]


_list = msgspec.json.Decoder(_List).decode
_card = msgspec.json.Decoder(_Card).decode


class ModelLists:
    """Keeps `EngineServer.models` up to date.

    Parameters
    ----------
    connections
        To the engines.
    servers
        The engines.
    unready
        Of the sidecar (`Runtime.unready`): says so while no engine answers.

    """

    def __init__(
        self,
        connections: Connections,
        servers: Sequence[EngineServer],
        unready: dict[str, str],
    ) -> None:
        self._connections = connections
        self._servers = servers
        self._unready = unready
        self._asked = -LEAST_S

    async def merged(self, authorization: str | None) -> bytes:
        """Return the models of all engines as one list; of two with one id the first counts.

        Raises
        ------
        ProblemError
            502 where no engine told.

        """
        lists = await asyncio.gather(
            *(self._ask(server, authorization) for server in self._servers)
        )
        cards: dict[str, bytes] = {}
        for cards_of_server in lists:
            for model, card in (cards_of_server or {}).items():
                cards.setdefault(model, card)
        if all(found is None for found in lists):
            raise ProblemError("upstream-failed", "No engine has told which models it serves.")
        return b'{"object":"list","data":[' + b",".join(cards.values()) + b"]}"

    async def look_for(self, model: str) -> None:
        """Ask the engines anew if none is known to serve a model."""
        if any(server.models is None or model in server.models for server in self._servers):
            return
        if time.monotonic() - self._asked >= LEAST_S:
            await self.refresh()

    async def refresh(self) -> None:
        """Ask all engines."""
        self._asked = time.monotonic()
        await asyncio.gather(*(self._ask(server, None) for server in self._servers))
        if any(server.reachable for server in self._servers):
            self._unready.pop("upstreams", None)
        else:
            self._unready["upstreams"] = "no engine answers"

    @contextlib.asynccontextmanager
    async def refreshing(self) -> AsyncIterator[None]:
        """Refresh in the background."""
        task = asyncio.create_task(self._refresh_forever())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _refresh_forever(self) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(EVERY_S)

    async def _ask(
        self, server: EngineServer, authorization: str | None
    ) -> dict[str, bytes] | None:
        """Return a server's cards by model, their bytes unchanged; None where it does not tell."""
        try:
            answer = await self._connections.ask(
                "GET", f"{server.url}/v1/models", server.headers(authorization), TIMEOUT_S
            )
            server.reachable = answer.status < 500  # 401: it wants the client's key
            if answer.status != 200:
                raise ValueError(f"status {answer.status}")
            cards = {_card(raw).id: raw for raw in _list(answer.body).data}
        except (*FAILURES, ValueError) as error:  # msgspec's are ValueErrors
            if server.models is not None:
                logger.warning("engine %s: does not tell its models: %r", server.url, error)
            server.models = None
            server.reachable = server.reachable and isinstance(error, ValueError)
            return None
        server.models = {model: _card(raw).root or model for model, raw in cards.items()}
        return {model: bytes(raw) for model, raw in cards.items()}
