"""The front's routes, and what runs beside them."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Request
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from stopper.service.auth import require
from stopper.service.compression import Compressor
from stopper.service.problems import ProblemError, refuse
from stopper.service.proxy import documents, errors, stop_thinking
from stopper.service.proxy.bookkeeping import Books
from stopper.service.proxy.compressing import compressed
from stopper.service.proxy.connections import Connections
from stopper.service.proxy.gauges import UpstreamGauges
from stopper.service.proxy.headers import to_engine, value_of
from stopper.service.proxy.models import ModelLists
from stopper.service.proxy.options import Silence, prepare
from stopper.service.proxy.relay import Front, Relay
from stopper.service.proxy.reports import Reporter
from stopper.service.proxy.sending import Call, Sender
from stopper.service.proxy.servers import EngineServer
from stopper.service.proxy.tail import Style
from stopper.service.runtime import Runtime
from stopper.service.sampling import audited
from stopper.wire import MAX_REQUEST_ID, ContextReport

Key = Annotated[str, Depends(require("decide"))]
TAG = "openai"
CHAT_PATH = "/v1/chat/completions"


class Stopping(BaseModel):
    """The thinking is being closed; the answer follows on the request's own stream."""

    outcome: str = "stopping"


def attach(app: FastAPI, runtime: Runtime) -> None:
    """Add the OpenAI-compatible routes, after the compressor; without an upstream they answer 503.

    Raises
    ------
    InputError
        If an upstream's key cannot be read.

    """
    settings = runtime.settings
    compressor: Compressor | None = app.state.compressor
    servers = [EngineServer(upstream, settings.proxy) for upstream in settings.upstreams]
    connections = Connections(settings.proxy)
    models = ModelLists(connections, servers, runtime.unready)
    books = Books(runtime)
    front = Front(
        Sender(connections, servers, settings.proxy),
        Reporter(connections, runtime.catalog, settings.proxy.report_s),
        books,
        settings.proxy,
    )

    @contextlib.asynccontextmanager
    async def connected() -> AsyncIterator[None]:
        async with connections.running(), books.running(), models.refreshing():
            yield

    if servers:
        runtime.while_running(connected)
        runtime.looks.append(UpstreamGauges(runtime.metrics, servers).show)
        runtime.details["upstreams"] = lambda: [_detail(server) for server in servers]

    def passed_on(request: Request) -> str | None:
        # With keys of its own the sidecar's clients send those, and they are nobody else's.
        return request.headers.get("authorization") if runtime.keys.open else None

    async def relay(request: Request, style: Style, auditable: bool) -> Response:
        _require(servers)
        received: list[tuple[bytes, bytes]] = request.scope["headers"]
        if (request.headers.get("content-encoding") or "identity") != "identity":
            refuse("unsupported-media-type", "Send the body without a Content-Encoding.")
        request_id = value_of(received, b"x-request-id") or secrets.token_hex(16)
        if len(request_id) > MAX_REQUEST_ID:
            refuse("bad-request", f"X-Request-Id: at most {MAX_REQUEST_ID} characters")
        try:
            body = await request.body()
        except ClientDisconnect:
            return Response(status_code=499)
        context: ContextReport | None = None
        if request.url.path == CHAT_PATH and compressor is not None:
            body, context = await compressed(body, compressor)
        prepared = prepare(
            body,
            silence=lambda model: _silence(runtime, servers, model),
            chosen=audited(request_id, settings.audits.share),
            auditable=auditable,
            alpha=settings.alpha,
        )
        await models.look_for(prepared.model)
        authorization = passed_on(request)
        call = Call(
            request.url.path,
            request.scope["query_string"],
            prepared.body,
            prepared.model,
            _headers_for(received, request_id, authorization),
        )
        return Relay(
            front, call, prepared,
            request_id=request_id, style=style, authorization=authorization, context=context,
        )  # fmt: skip

    def route(path: str, style: Style, auditable: bool, document: dict[str, Any]) -> None:
        async def forward(request: Request, _: Key) -> Response:
            try:
                return await relay(request, style, auditable)
            except ProblemError as error:
                books.responded(error.problem.status)
                return errors.respond(error)

        app.add_api_route(
            path, forward, methods=["POST"], tags=[TAG], response_model=None, **document
        )

    route(CHAT_PATH, "choices", True, documents.CHAT)
    route("/v1/completions", "choices", True, documents.COMPLETIONS)
    route("/v1/responses", "responses", False, documents.RESPONSES)

    @app.get("/v1/models", tags=[TAG], response_model=None, **documents.MODELS)
    async def list_models(request: Request, _: Key) -> Response:
        try:
            _require(servers)
            found = await models.merged(passed_on(request))
        except ProblemError as error:
            return errors.respond(error)
        return Response(found, media_type="application/json")

    @app.post(
        "/v1/requests/{id}/stop-thinking", tags=[TAG], summary="Stop one request's thinking now"
    )
    async def stop(
        request: Request,
        _: Key,
        id: Annotated[
            str, Path(min_length=1, max_length=MAX_REQUEST_ID, description="Of the response.")
        ],
    ) -> Stopping:
        _require(servers)
        await stop_thinking.stop_thinking(connections, servers, id, passed_on(request))
        return Stopping()


def _require(servers: list[EngineServer]) -> None:
    if not servers:
        raise ProblemError(
            "unavailable", "This sidecar has no engine behind it: start it with --upstream URL."
        )


def _headers_for(
    received: Iterable[tuple[bytes, bytes]], request_id: str, authorization: str | None
) -> Callable[[EngineServer], list[tuple[bytes, bytes]]]:
    kept = to_engine(received, request_id)

    def headers(server: EngineServer) -> list[tuple[bytes, bytes]]:
        own = server.headers(authorization)
        return kept + [(name.encode(), value.encode("latin-1")) for name, value in own.items()]

    return headers


def _silence(runtime: Runtime, servers: list[EngineServer], model: str) -> Silence | None:
    """Say why nothing may be stopped for a model.

    An alarm is raised on an artifact: the one that serves the model here, under the name the client
    uses or the one under which an engine holds it, or that an engine's last decision has named.
    Where all that tells nothing, an alarm on any artifact here counts: to stop nothing is safe.
    """
    control = runtime.board.current
    if control.kill_switch is None and not control.alarms:
        return None
    names = {model, *((server.models or {}).get(model, model) for server in servers)}
    active = runtime.catalog.all_active()
    versions = {served.version for served in active if served.model in names}
    versions |= {server.versions[model] for server in servers if model in server.versions}
    for version in versions or {served.version for served in active} or {""}:
        found = control.silence(version)
        if found is not None:
            return found
    return None


def _detail(server: EngineServer) -> dict[str, object]:
    """Describe a server to everybody: not where it is."""
    models = None if server.models is None else len(server.models)
    return {"breaker": server.state, "running": server.running, "models": models}
