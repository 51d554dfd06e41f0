"""Requests to the sidecar and how their answers are read: pure, shared by both clients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

import msgspec

from stopper.client._batches import batches
from stopper.client._errors import BadAnswerError, ClientError, refusal
from stopper.client._records import (
    ArtifactCard,
    Artifacts,
    Audit,
    KillSwitchState,
    Readiness,
    RearmedAnswer,
    Receipt,
    Status,
    Stopping,
)
from stopper.errors import InputError
from stopper.wire import (
    Compression,
    CompressRequest,
    ContextDocument,
    Decision,
    DecisionBatch,
    DecisionEvent,
    Decisions,
    Problem,
)

T = TypeVar("T")

Encoding = Literal["msgpack", "json"]
_DECISIONS = "/v1/stop-decisions"
_JSON, _MSGPACK, _PROBLEM = "application/json", "application/msgpack", "application/problem+json"
_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """Content type, without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request.

    Attributes
    ----------
    read
        Makes the answer of a success.
    repeatable
        Whether sending it twice does what sending it once does.
    also
        Statuses besides 2xx that `read` understands.

    """

    method: str
    path: str
    read: Callable[[Reply], T]
    body: bytes | None = None
    media_type: str = _JSON
    accept: str = _JSON
    repeatable: bool = False
    also: tuple[int, ...] = ()

    @property
    def headers(self) -> dict[str, str]:
        """Of this request."""
        accepted = {"Accept": f"{self.accept}, {_PROBLEM}"}
        return accepted if self.body is None else accepted | {"Content-Type": self.media_type}

    def answer(self, reply: Reply) -> T:
        """Read a reply.

        Raises
        ------
        RefusedError
            If it is a problem, or any other failure in HTTP's terms.
        BadAnswerError
            If it is no answer of a sidecar.

        """
        if not 200 <= reply.status < 300 and not (
            reply.status in self.also and reply.media_type == _JSON
        ):
            raise _refused(self, reply)
        try:
            return self.read(reply)
        except _FAULTS as error:
            raise BadAnswerError(
                f"{self.method} {self.path}: the answer is none of a sidecar: {error}"
            ) from None


def _refused(call: Call[Any], reply: Reply) -> ClientError:
    after = reply.headers.get("retry-after", "")
    retry_after = float(after) if after.isdecimal() and len(after) < 7 else None
    problem: Problem | None = None
    if reply.media_type == _PROBLEM:
        try:
            problem = msgspec.json.decode(reply.body, type=Problem)
        except _FAULTS:
            problem = None  # told of below, by its status
    if problem is None:
        if reply.status < 400:
            return BadAnswerError(f"{call.method} {call.path}: HTTP {reply.status}")
        problem = Problem(
            "about:blank", f"HTTP {reply.status}, and no problem document", reply.status
        )
    return refusal(problem, retry_after)


def _json(kind: type[T]) -> Callable[[Reply], T]:
    decoder = msgspec.json.Decoder(kind)
    return lambda reply: decoder.decode(reply.body)


def _either(kind: type[T]) -> Callable[[Reply], T]:
    packed, text = msgspec.msgpack.Decoder(kind), msgspec.json.Decoder(kind)
    return lambda reply: (packed if reply.media_type == _MSGPACK else text).decode(reply.body)


_read_decision, _read_decisions = _either(Decision), _either(Decisions)


class Calls:
    """Builds the requests.

    Parameters
    ----------
    encoding
        Of events and decisions.

    """

    def __init__(self, encoding: Encoding) -> None:
        if encoding not in ("msgpack", "json"):
            raise InputError(f"encoding: {encoding!r}; use 'msgpack' or 'json'")
        self._binary = encoding == "msgpack"

    def decide(self, event: DecisionEvent) -> Call[Decision]:
        """Ask for one decision; a refused event is an error."""
        return self._decisions(event, [event], _read_decision)

    def decide_many(self, events: Sequence[DecisionEvent]) -> Iterator[Call[list[Decision]]]:
        """Ask for decisions in this order, in as few bodies as the sidecar takes."""
        return map(self._batch, batches(events))

    def _batch(self, batch: list[DecisionEvent]) -> Call[list[Decision]]:
        def read(reply: Reply) -> list[Decision]:
            found = _read_decisions(reply).decisions
            asked = [(event.request_id, event.position) for event in batch]
            if [(one.request_id, one.position) for one in found] != asked:
                raise msgspec.DecodeError("its decisions are not on the events that were sent")
            return found

        return self._decisions(DecisionBatch(batch), batch, read)

    def _decisions(
        self, body: object, events: Sequence[DecisionEvent], read: Callable[[Reply], T]
    ) -> Call[T]:
        if self._binary:
            data, media = msgspec.msgpack.encode(body), _MSGPACK
        else:
            for event in events:
                _require_finite(event)
            data, media = msgspec.json.encode(body), _JSON
        return Call("POST", _DECISIONS, read, data, media, media, repeatable=True)

    def submit_audit(self, audits: Audit | Sequence[Audit]) -> Call[Receipt]:
        """Hand in audits; each request counts once, however often it is sent."""
        body = audits if isinstance(audits, Mapping) else {"audits": list(audits)}
        try:
            data = msgspec.json.encode(body)
        except (TypeError, ValueError) as error:
            raise InputError(f"audits: {error}; docs/monitoring.md describes one") from None
        return Call("POST", "/v1/audits", _json(Receipt), data, repeatable=True)

    def compress(
        self,
        query: str,
        documents: Sequence[ContextDocument],
        threshold: float | None,
        alpha: float | None,
        floor: int | None,
    ) -> Call[Compression]:
        """Drop the sentences that cannot help."""
        if threshold is not None and not math.isfinite(threshold):
            raise InputError(f"threshold: {threshold} is no number that JSON can say")
        asked = CompressRequest(query, list(documents), threshold, alpha, floor)
        try:
            data = msgspec.json.encode(asked)
        except (TypeError, ValueError) as error:
            raise InputError(f"documents: {error}; texts must be valid Unicode") from None
        return Call("POST", "/v1/context/compress", _json(Compression), data, repeatable=True)

    def status(self) -> Call[Status]:
        """Ask how the sidecar fares."""
        return Call("GET", "/v1/status", _json(Status), repeatable=True)

    def artifacts(self) -> Call[list[ArtifactCard]]:
        """Ask for the active artifacts."""
        read = _json(Artifacts)
        return Call("GET", "/v1/artifacts", lambda reply: read(reply).artifacts, repeatable=True)

    def ready(self) -> Call[Readiness]:
        """Ask whether the replica takes requests; "no" is an answer."""
        return Call("GET", "/readyz", _json(Readiness), repeatable=True, also=(503,))

    def load_artifact(self, folder: str | None, model: str | None) -> Call[ArtifactCard]:
        """Serve another folder, or read the same one again."""
        return _admin("/v1/artifacts/load", ArtifactCard, model=model, folder=folder)

    def rollback_artifact(self, model: str | None) -> Call[ArtifactCard]:
        """Serve the version before."""
        return _admin("/v1/artifacts/rollback", ArtifactCard, model=model)

    def set_kill_switch(self, on: bool, why: str) -> Call[KillSwitchState]:
        """Turn all stopping off, or on again."""
        return _admin("/v1/kill-switch", KillSwitchState, repeatable=True, on=on, why=why)

    def re_arm_alarm(self, artifact: str, why: str) -> Call[RearmedAnswer]:
        """Take an artifact's alarm back."""
        return _admin("/v1/alarm/re-arm", RearmedAnswer, artifact=artifact, why=why)

    def stop_thinking(self, request_id: str) -> Call[None]:
        """End a running request's thinking."""
        if not request_id:
            raise InputError("request_id: must not be empty")
        path = f"/v1/requests/{quote(request_id, safe='')}/stop-thinking"
        read = _json(Stopping)

        def stopping(reply: Reply) -> None:
            if read(reply).outcome != "stopping":
                raise msgspec.DecodeError(f"the outcome is {read(reply).outcome!r}")

        return Call("POST", path, stopping)


def _admin(path: str, kind: type[T], *, repeatable: bool = False, **fields: Any) -> Call[T]:
    return Call("POST", path, _json(kind), msgspec.json.encode(fields), repeatable=repeatable)


def _require_finite(event: DecisionEvent) -> None:
    """Refuse what JSON cannot say; it would arrive as null."""
    numbers = [event.score, event.progress, event.alpha, *(event.logit_margins or ())]
    if any(number is not None and not math.isfinite(number) for number in numbers):
        raise InputError(
            f"request {event.request_id}, position {event.position}: a number is not finite, which "
            "JSON cannot say; use encoding='msgpack'"
        )


def checked_url(base_url: str) -> str:
    """Return the address, if it is one.

    Raises
    ------
    InputError
        If it is no HTTP URL.

    """
    if not base_url.startswith(("http://", "https://")):
        raise InputError(f"{base_url!r} is no address such as http://127.0.0.1:8080")
    return base_url.rstrip("/")


def own_headers(api_key: str | None) -> dict[str, str]:
    """Return the headers of every request.

    Raises
    ------
    InputError
        If the key cannot be sent in a header.

    """
    if api_key is None:
        return {}
    if not api_key.isascii() or not api_key.isprintable() or not api_key.strip():
        raise InputError("api_key: is empty or has characters that a header cannot carry")
    return {"Authorization": f"Bearer {api_key}"}
