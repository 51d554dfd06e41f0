"""Stop thinking now: asks every engine, for nobody knows which one has the request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from stopper.service.problems import ProblemError
from stopper.service.proxy.connections import FAILURES, Connections
from stopper.service.proxy.servers import EngineServer

logger = logging.getLogger(__name__)

TIMEOUT_S = 5.0


class _Told(msgspec.Struct):
    outcome: str
    reason: str | None = None
    detail: str | None = None


_told = msgspec.json.Decoder(_Told).decode


async def stop_thinking(
    connections: Connections,
    servers: Sequence[EngineServer],
    request_id: str,
    authorization: str | None,
) -> None:
    """End the thinking of one running request.

    Parameters
    ----------
    request_id
        The `id` of its response, which a stream has in every event.

    Raises
    ------
    ProblemError
        404 where no engine runs it, 409 where it cannot be stopped (the detail says why), 502 where
        not every engine told and none of the others runs it.

    """
    answers = await asyncio.gather(
        *(_ask(connections, server, request_id, authorization) for server in servers)
    )
    if any(answer == "stopping" for answer in answers):
        return
    conflict = next((answer for answer in answers if isinstance(answer, _Told)), None)
    if conflict is not None:
        reason = f" ({conflict.reason})" if conflict.reason else ""
        detail = f": {conflict.detail}" if conflict.detail else ""
        raise ProblemError("conflict", f"{conflict.outcome}{reason}{detail}", instance=request_id)
    if any(answer == "silent" for answer in answers):
        raise ProblemError(
            "upstream-failed",
            "No engine that answered runs this request, and not every engine answered.",
            instance=request_id,
        )
    if all(answer == "no_stopper" for answer in answers):
        raise ProblemError("conflict", "not_watched (engine_without_stopper)", instance=request_id)
    raise ProblemError("not-found", "No engine runs a request of this id.", instance=request_id)


async def _ask(
    connections: Connections, server: EngineServer, request_id: str, authorization: str | None
) -> _Told | str:
    url = f"{server.url}/stopper/requests/{quote(request_id, safe='')}/stop-thinking"
    try:
        answer = await connections.ask("POST", url, server.headers(authorization), TIMEOUT_S)
    except FAILURES as error:
        logger.warning("engine %s: not asked to stop: %r", server.url, error)
        return "silent"
    if answer.status == 200:
        return "stopping"
    if answer.status not in (404, 405, 409):
        logger.warning("engine %s: not asked to stop: %d", server.url, answer.status)
        return "silent"
    try:
        told = _told(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "no_stopper"  # it has no such route, or its stopper is off
    return told if answer.status == 409 else "unknown"
