import asyncio
import sys
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from sidecars import settings

from stopper.errors import UnsupportedError
from stopper.service import tracing
from stopper.service.app import create_app
from stopper.service.runtime import Runtime

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


def traced(path: str, **headers: str) -> tuple[httpx.Response, list[ReadableSpan]]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    runtime = Runtime.from_settings(settings())
    app = FastAPI()

    @app.get("/things/{name}")
    async def thing(request: Request) -> dict[str, Any]:
        if request.path_params["name"] == "broken":
            raise RuntimeError
        return {"traceparent": request.headers.get("traceparent")}

    @app.get("/livez")
    async def livez() -> None:
        return None

    tracing.attach(app, runtime, provider)

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://sidecar") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(run()), list(exporter.get_finished_spans())


def test_a_request_is_a_span_under_its_traceparent_and_is_passed_on_as_the_parent() -> None:
    answer, (span,) = traced("/things/secret?q=hidden", traceparent=f"00-{TRACE}-{PARENT}-01")
    assert span.name == "GET /things/{name}"
    assert span.kind is SpanKind.SERVER
    assert span.context is not None
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    assert answer.json()["traceparent"] == f"00-{TRACE}-{span.context.span_id:016x}-01"
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 200
    assert "secret" not in span.to_json()
    assert "hidden" not in span.to_json()


def test_a_request_without_a_parent_begins_a_trace_and_a_fault_is_an_error() -> None:
    answer, (span,) = traced("/things/broken")
    assert answer.status_code == 500
    assert span.parent is None
    assert span.status.status_code is StatusCode.ERROR


def test_probes_are_not_traced() -> None:
    assert traced("/livez")[1] == []


def test_without_opentelemetry_the_sidecar_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'stopper\[otel\]'"):
        create_app(settings(otel=True))


def test_with_it_spans_are_flushed_when_the_sidecar_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    monkeypatch.setattr(tracing, "make_provider", lambda: Provider(ended))
    runtime = Runtime.from_settings(settings(otel=True))
    create_app(runtime=runtime)

    async def run() -> None:
        async with runtime.running():
            assert ended == []

    asyncio.run(run())
    assert ended == [True]


class Provider(TracerProvider):
    def __init__(self, ended: list[bool]) -> None:
        super().__init__()
        self._ended = ended

    def shutdown(self) -> None:
        self._ended.append(True)
        super().shutdown()
