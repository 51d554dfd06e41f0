"""The synchronous client."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TypeVar

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


class StopperClient:
    """Talks to a sidecar; may be shared by threads.

    Parameters
    ----------
    base_url
        Such as http://127.0.0.1:8080.
    api_key
        Needs the scope of what is called: decide, read or admin (docs/sidecar.md).
    timeout
        Seconds to wait for a connection, and for each part of an answer.
    retries
        Further tries of calls that may be sent twice; 0 for none.
    encoding
        "msgpack" or "json", of events and decisions.
    transport
        Of httpx, in place of the network.

    Raises
    ------
    InputError
        If an argument is wrong. Every method raises `ClientError` (see `stopper.client`).

    Examples
    --------
    >>> with StopperClient("http://127.0.0.1:8080") as client:  # doctest: +SKIP
    ...     client.decide(DecisionEvent("r1", "tiny", 31, score=2.5)).stop

    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float = 5.0,
        retries: int = 2,
        encoding: Encoding = "msgpack",
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._calls = Calls(encoding)
        self._retries = Retries(retries)
        self._http = httpx.Client(
            base_url=checked_url(base_url),
            headers=own_headers(api_key),
            timeout=timeout,
            transport=transport,
        )

    def decide(self, event: DecisionEvent) -> Decision:
        """Decide on one event; sent again, it gets the same decision.

        Raises
        ------
        BadRequestError, NotFoundError, ConflictError
            If it cannot be decided on: a wrong state, an unknown model, a position out of order.

        """
        return self._send(self._calls.decide(event))

    def decide_many(self, events: Sequence[DecisionEvent]) -> list[Decision]:
        """Decide on events, in their order; any number of them.

        An event that cannot be decided on says so in its decision's `problem`; the others are
        decided on.
        """
        return [one for call in self._calls.decide_many(events) for one in self._send(call)]

    def submit_audit(self, audits: Audit | Sequence[Audit]) -> Receipt:
        """Hand in an audited request, or up to 1,000; a request counts once."""
        return self._send(self._calls.submit_audit(audits))

    def compress(
        self,
        query: str,
        documents: Sequence[ContextDocument],
        *,
        threshold: float | None = None,
        alpha: float | None = None,
        floor: int | None = None,
    ) -> Compression:
        """Drop the sentences of retrieved documents that cannot help to answer a question.

        Parameters
        ----------
        query
            The question.
        documents
            What was retrieved.
        threshold, alpha
            At most one; None of both takes the sidecar's. See docs/context.md.
        floor
            Sentences to keep at least.

        Raises
        ------
        BadRequestError, UnavailableError
            If a bound is exceeded; if it took too long.
        NotFoundError
            If the sidecar compresses nothing.

        """
        return self._send(self._calls.compress(query, documents, threshold, alpha, floor))

    def status(self) -> Status:
        """Return what the status page shows."""
        return self._send(self._calls.status())

    def artifacts(self) -> list[ArtifactCard]:
        """Return the active artifacts."""
        return self._send(self._calls.artifacts())

    def ready(self) -> Readiness:
        """Return whether this replica takes requests (true in a condition), with details."""
        return self._send(self._calls.ready())

    def load_artifact(self, folder: str | None = None, *, model: str | None = None) -> ArtifactCard:
        """Serve another artifact on all replicas.

        Parameters
        ----------
        folder
            A folder's name below the sidecar's artifact root; None reads the active one again.
        model
            Not needed where one is served.

        """
        return self._send(self._calls.load_artifact(folder, model))

    def rollback_artifact(self, *, model: str | None = None) -> ArtifactCard:
        """Serve the version before on all replicas."""
        return self._send(self._calls.rollback_artifact(model))

    def set_kill_switch(self, on: bool, why: str = "") -> KillSwitchState:
        """Stop nothing any more on all replicas (True), or stop again."""
        return self._send(self._calls.set_kill_switch(on, why))

    def re_arm_alarm(self, artifact: str, why: str) -> RearmedAnswer:
        """Let an artifact stop again whose alarm stands, and watch it anew."""
        return self._send(self._calls.re_arm_alarm(artifact, why))

    def stop_thinking(self, request_id: str) -> None:
        """End the thinking of a request that runs on an engine behind the sidecar.

        Parameters
        ----------
        request_id
            The `id` of its response, which a stream has in every event.

        Raises
        ------
        NotFoundError, ConflictError
            If no engine runs it; if it does not think, or is not watched.

        """
        self._send(self._calls.stop_thinking(request_id))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, call: Call[T]) -> T:
        tried = 0
        while True:
            try:
                return call.answer(self._exchange(call))
            except ClientError as error:
                tried += 1
                wait = self._retries.wait_s(call, error, tried)
                if wait is None:
                    raise
            time.sleep(wait)

    def _exchange(self, call: Call[T]) -> Reply:
        try:
            found = self._http.request(
                call.method, call.path, content=call.body, headers=call.headers
            )
        except httpx.RequestError as error:
            raise failure(error, self._http.base_url) from error
        return Reply(found.status_code, found.headers, found.content)
