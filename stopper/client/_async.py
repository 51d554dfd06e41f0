"""The asynchronous client: `StopperClient`, method for method."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self, TypeVar

import anyio
import httpx

from stopper.client._calls import Call, Calls, Encoding, Reply, checked_url, own_headers
from stopper.client._errors import ClientError
from stopper.client._records import (
    ArtifactCard,
    Audit,
    KillSwitchState,
    Readiness,
    RearmedAnswer,
    Receipt,
    Status,
)
from stopper.client._retries import Retries
from stopper.client._transport import failure
from stopper.wire import Compression, ContextDocument, Decision, DecisionEvent

T = TypeVar("T")


class AsyncStopperClient:
    """Talks to a sidecar, under asyncio or trio; see `StopperClient` for all parameters."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float = 5.0,
        retries: int = 2,
        encoding: Encoding = "msgpack",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._calls = Calls(encoding)
        self._retries = Retries(retries)
        self._http = httpx.AsyncClient(
            base_url=checked_url(base_url),
            headers=own_headers(api_key),
            timeout=timeout,
            transport=transport,
        )

    async def decide(self, event: DecisionEvent) -> Decision:
        """Decide on one event; see `StopperClient.decide`."""
        return await self._send(self._calls.decide(event))

    async def decide_many(self, events: Sequence[DecisionEvent]) -> list[Decision]:
        """Decide on events, in their order; see `StopperClient.decide_many`."""
        return [one for call in self._calls.decide_many(events) for one in await self._send(call)]

    async def submit_audit(self, audits: Audit | Sequence[Audit]) -> Receipt:
        """Hand in an audited request, or up to 1,000; a request counts once."""
        return await self._send(self._calls.submit_audit(audits))

    async def compress(
        self,
        query: str,
        documents: Sequence[ContextDocument],
        *,
        threshold: float | None = None,
        alpha: float | None = None,
        floor: int | None = None,
    ) -> Compression:
        """Drop the sentences of documents that cannot help; see `StopperClient.compress`."""
        return await self._send(self._calls.compress(query, documents, threshold, alpha, floor))

    async def status(self) -> Status:
        """Return what the status page shows."""
        return await self._send(self._calls.status())

    async def artifacts(self) -> list[ArtifactCard]:
        """Return the active artifacts."""
        return await self._send(self._calls.artifacts())

    async def ready(self) -> Readiness:
        """Return whether this replica takes requests (true in a condition), with details."""
        return await self._send(self._calls.ready())

    async def load_artifact(
        self, folder: str | None = None, *, model: str | None = None
    ) -> ArtifactCard:
        """Serve another artifact on all replicas; see `StopperClient.load_artifact`."""
        return await self._send(self._calls.load_artifact(folder, model))

    async def rollback_artifact(self, *, model: str | None = None) -> ArtifactCard:
        """Serve the version before on all replicas."""
        return await self._send(self._calls.rollback_artifact(model))

    async def set_kill_switch(self, on: bool, why: str = "") -> KillSwitchState:
        """Stop nothing any more on all replicas (True), or stop again."""
        return await self._send(self._calls.set_kill_switch(on, why))

    async def re_arm_alarm(self, artifact: str, why: str) -> RearmedAnswer:
        """Let an artifact stop again whose alarm stands, and watch it anew."""
        return await self._send(self._calls.re_arm_alarm(artifact, why))

    async def stop_thinking(self, request_id: str) -> None:
        """End the thinking of a running request; see `StopperClient.stop_thinking`."""
        await self._send(self._calls.stop_thinking(request_id))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _send(self, call: Call[T]) -> T:
        tried = 0
        while True:
            try:
                return call.answer(await self._exchange(call))
            except ClientError as error:
                tried += 1
                wait = self._retries.wait_s(call, error, tried)
                if wait is None:
                    raise
            await anyio.sleep(wait)

    async def _exchange(self, call: Call[T]) -> Reply:
        try:
            found = await self._http.request(
                call.method, call.path, content=call.body, headers=call.headers
            )
        except httpx.RequestError as error:
            raise failure(error, self._http.base_url) from error
        return Reply(found.status_code, found.headers, found.content)
