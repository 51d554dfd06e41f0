"""What the front tells others about a request whose response has ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from stopper.wire import Report

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """One request that went through the front to its end.

    Told once a request, after the last byte has gone to the client. Requests that failed, or that
    the client left, are not told of.

    Attributes
    ----------
    request_id
        The X-Request-Id that went to the engine: `audited` hashes it.
    response_id
        The `id` of the response, by which the engine knows the request; None where it had none.
    model
        As the client named it.
    path
        Such as /v1/chat/completions.
    upstream
        Base URL of the server that answered.
    upstream_headers
        To send along when this server is asked something more, such as Authorization. Secret.
    audited
        The front made an audit of it: the engine marked and did not stop, and the ids are here.
    prompt_token_ids, output_token_ids
        Of an audited request, without gaps; None where it is not audited. The output ends with
        the end-of-sequence token where the engine sampled one.
    record
        The engine's decision (docs/vllm.md, "Decisions"); None where it was not told in time.
    report
        What the client was told.
    time
        When the response ended, UTC.
    finish_reason
        Of the only choice: "stop", "length", ...; None where unknown.

    """

    request_id: str
    response_id: str | None
    model: str
    path: str
    upstream: str
    upstream_headers: Mapping[str, str] = field(repr=False)
    audited: bool
    prompt_token_ids: tuple[int, ...] | None = field(repr=False)
    output_token_ids: tuple[int, ...] | None = field(repr=False)
    record: Mapping[str, Any] | None = field(repr=False)
    report: Report
    time: datetime
    finish_reason: str | None = None


Listener = Callable[[FinishedRequest], None]
"""Called in the event loop, the client's connection still open: do not block; start a task."""


class FinishedRequests:
    """Who is told; parts add themselves when they attach to the application."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Tell `listener` from now on."""
        self._listeners.append(listener)

    def tell(self, request: FinishedRequest) -> int:
        """Tell everybody; return how many of them failed, which hurts nobody else."""
        failed = 0
        for listener in self._listeners:
            try:
                listener(request)
            except Exception:  # a listener's fault must not break a response
                logger.exception("a listener to finished requests failed")
                failed += 1
        return failed
