"""OpenTelemetry spans of requests, where the operator wants them (`otel = true`)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import anyio.to_thread
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stopper.errors import UnsupportedError
from stopper.service.admission import ALWAYS
from stopper.service.logs import route_of
from stopper.service.runtime import Runtime

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_REMEDY = "otel: needs OpenTelemetry; install it by `pip install 'stopper[otel]'`, or leave it off"


def make_provider() -> TracerProvider:
    """Return a provider that exports by OTLP, as the `OTEL_...` variables say.

    Raises
    ------
    UnsupportedError
        If OpenTelemetry is not installed.

    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise UnsupportedError(_REMEDY) from None
    named = Resource.create({"service.name": "stopper"})
    # What the variable OTEL_SERVICE_NAME says comes last: it wins.
    provider = TracerProvider(resource=named.merge(Resource.create()))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def attach(app: FastAPI, runtime: Runtime, provider: TracerProvider | None = None) -> None:
    """Trace all requests; spans still held are sent when the sidecar ends.

    Parameters
    ----------
    provider
        None makes one that exports by OTLP.

    """
    used = make_provider() if provider is None else provider

    @contextlib.asynccontextmanager
    async def flushed() -> AsyncIterator[None]:
        yield
        await anyio.to_thread.run_sync(used.shutdown)

    runtime.while_running(flushed)
    app.add_middleware(Tracing, provider=used)


class Tracing:
    """A span for each request, a child of its `traceparent`.

    What runs inside sees the span as `traceparent`, so that the engine's spans become its children.
    """

    def __init__(self, app: ASGIApp, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._app = app
        self._tracer = provider.get_tracer("stopper")
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on within a span."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        if scope["type"] != "http" or scope["path"] in ALWAYS:
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in (b"traceparent", b"tracestate")
        }
        span = self._tracer.start_span(
            scope["method"],
            context=self._propagator.extract(headers),
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": scope["method"],
                "url.scheme": scope["scheme"],
                "network.protocol.version": scope["http_version"],
            },
        )
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        onward: dict[str, str] = {}
        self._propagator.inject(onward, context=set_span_in_context(span))
        kept = [pair for pair in scope["headers"] if pair[0] not in (b"traceparent", b"tracestate")]
        scope["headers"] = kept + [(name.encode(), text.encode()) for name, text in onward.items()]
        try:
            await self._app(scope, receive, watched)
        finally:
            route = route_of(scope)
            span.update_name(f"{scope['method']} {route}")
            span.set_attribute("http.route", route)
            span.set_attribute("http.response.status_code", status)
            if status >= 500:
                span.set_status(Status(StatusCode.ERROR))
            span.end()
