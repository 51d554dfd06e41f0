"""Decisions from a sidecar, as the plugin's remote mode has them: in time, or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import numpy as np

from stopper.client import AsyncStopperClient, ClientError, RefusedError, hidden_state
from stopper.errors import InputError
from stopper.scripted.run import Run, Verdict
from stopper.scripted.script import Piece
from stopper.wire import Decision, DecisionEvent

logger = logging.getLogger(__name__)


class Sidecar:
    """Asks at cues, one at a time and request; the engine goes on meanwhile.

    A stop applies to the token after its arrival. An answer that is late, refused or lost means
    continue, and is counted in `failed`, by cause.

    Parameters
    ----------
    client
        Knows the sidecar's address and key; closed by `close`.
    model
        The name under which the sidecar knows this model.
    deadline_s
        For each decision.

    """

    def __init__(self, client: AsyncStopperClient, model: str, deadline_s: float) -> None:
        self._client = client
        self._model = model
        self._deadline = deadline_s
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stops: dict[str, Verdict] = {}
        self.failed: Counter[str] = Counter()

    def ask(self, run: Run, piece: Piece, position: int) -> None:
        """Send a cue, after those of this request that are still on their way."""
        hidden = (
            None
            if piece.hidden_state is None
            else hidden_state(np.array(piece.hidden_state, np.float32))
        )
        event = DecisionEvent(
            request_id=run.request_id,
            model=self._model,
            position=position,
            hidden_state=hidden,
            score=piece.score if hidden is None else None,
            alpha=run.alpha,
            audit=run.options.mode == "audit",
        )
        before = self._tasks.get(run.request_id)
        self._tasks[run.request_id] = asyncio.ensure_future(self._decide(run, piece, event, before))

    async def _decide(
        self, run: Run, piece: Piece, event: DecisionEvent, before: asyncio.Task[None] | None
    ) -> None:
        try:
            async with asyncio.timeout(self._deadline):
                if before is not None:
                    await asyncio.wait([before])
                found = await self._client.decide(event)
        except TimeoutError:
            self._lost(run, "remote_late")
        except ClientError as error:
            refused = isinstance(error, RefusedError)
            self._lost(run, "remote_refused" if refused else "remote_failed")
            logger.warning("the sidecar gave no decision: %s", error)
        else:
            self._take(run, piece, found)

    def _lost(self, run: Run, cause: str) -> None:
        self.failed[cause] += 1
        run.heard.lost[cause] += 1

    def _take(self, run: Run, piece: Piece, found: Decision) -> None:
        run.heard.last = found.reason
        if not (found.stop or found.marked):
            return
        verdict = Verdict(
            found.position, piece.cue, found.score, found.threshold, found.reason, found.artifact
        )
        self._stops.setdefault(run.request_id, verdict)

    def told(self, run: Run) -> Verdict | None:
        """Return a stop (or mark) that has come in, once."""
        return self._stops.pop(run.request_id, None)

    def forget(self, run: Run) -> None:
        """Take leave of a finished request; what is still on its way is dropped."""
        task = self._tasks.pop(run.request_id, None)
        if task is not None:
            task.cancel()
        self._stops.pop(run.request_id, None)

    async def close(self) -> None:
        """Drop what is on its way and close the client."""
        for task in self._tasks.values():
            task.cancel()
        await self._client.close()


def sidecar_at(url: str, model: str, *, api_key: str | None, deadline_s: float) -> Sidecar:
    """Build a `Sidecar` for an address.

    Raises
    ------
    InputError
        If the deadline is not positive.

    """
    if not deadline_s > 0:
        raise InputError(f"the deadline must be positive, got {deadline_s}")
    client = AsyncStopperClient(url, api_key=api_key, timeout=deadline_s, retries=0)
    return Sidecar(client, model, deadline_s)
