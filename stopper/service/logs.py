"""Structured logs: what was asked for and what became of it, never what was said."""

from __future__ import annotations

import logging
import re
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

from pythonjsonlogger.msgspec import MsgspecFormatter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stopper.service.admission import ALWAYS
from stopper.service.problems import problem, respond

if TYPE_CHECKING:
    from stopper.service.settings import ServeSettings

logger = logging.getLogger("stopper.requests")

_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def _without_words(info: Any) -> str:
    """Return a traceback without the exceptions' messages: they may quote a request.

    Those of the operating system quote none and stay.
    """
    kind, error, trace = info
    if kind is None:
        return ""
    chain: list[str] = []
    while error is not None:
        said = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
        frames = "".join(traceback.format_tb(trace))
        chain.append(f"{frames}{type(error).__qualname__}{said}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        trace = error.__traceback__ if error is not None else None
    return "\n\nafter\n\n".join(chain)


class _Json(MsgspecFormatter):
    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        return _without_words(ei)


class _Text(logging.Formatter):
    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        return _without_words(ei)

    def format(self, record: logging.LogRecord) -> str:
        said = super().format(record)
        extra = getattr(record, "request", None)
        if extra is None:
            return said
        return f"{said} {' '.join(f'{name}={value}' for name, value in extra.items())}"


def configure(settings: ServeSettings) -> None:
    """Send all logs of this process to standard error in one format."""
    handler = logging.StreamHandler(sys.stderr)
    formatter: logging.Formatter
    if settings.log_format == "json":
        formatter = _Json(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            datefmt="%Y-%m-%dT%H:%M:%SZ",
        )
        formatter.converter = time.gmtime
    else:
        formatter = _Text("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # other libraries
    logging.getLogger("stopper").setLevel(settings.log_level.upper())
    logging.getLogger("uvicorn.error").setLevel(
        max(logging.WARNING, logging.getLevelNamesMapping()[settings.log_level.upper()])
    )


class RequestLog:
    """Logs each request; the outermost part, which also answers what all others failed to."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and write a line about it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = _Sent(send)
        begin = time.perf_counter()
        try:
            await self._app(scope, receive, sent)
        except Exception as error:
            logger.error("fault in a request", exc_info=error)
            if sent.status is not None:
                sent.status = 500  # as far as it can be told now
                raise
            await respond(problem("internal", "The log has the details."))(scope, receive, sent)
        finally:
            level = logging.DEBUG if scope["path"] in ALWAYS else logging.INFO
            if logger.isEnabledFor(level):
                logger.log(level, "request", extra=_fields(scope, sent, begin))


class _Sent:
    __slots__ = ("bytes", "send", "status")

    def __init__(self, send: Send) -> None:
        self.send = send
        self.status: int | None = None
        self.bytes = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.bytes += len(message.get("body", b""))
        await self.send(message)


def route_of(scope: Scope) -> str:
    """Return the template of the route, such as /v1/requests/{id}/stop-thinking."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "(none)"


def trace_of(scope: Scope) -> str | None:
    """Return the trace id of a valid traceparent (W3C Trace Context)."""
    for name, value in scope["headers"]:
        if name == b"traceparent":
            found = _TRACEPARENT.fullmatch(value)
            return found[1].decode() if found else None
    return None


def _fields(scope: Scope, sent: _Sent, begin: float) -> dict[str, Any]:
    found: dict[str, Any] = {
        "method": scope["method"],
        "route": route_of(scope),
        "status": sent.status,
        "ms": round((time.perf_counter() - begin) * 1e3, 3),
        "bytes": sent.bytes,
    }
    key = scope.get("state", {}).get("key_name")
    if key is not None:
        found["key"] = key
    trace = trace_of(scope)
    if trace is not None:
        found["trace_id"] = trace
    return {"request": found}
