"""The scripted engine's HTTP surface: that of `vllm serve` with stopper in it."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from stopper.errors import InputError
from stopper.exposition import CONTENT_TYPE, exposition
from stopper.scripted import faults, prompts
from stopper.scripted.chat import ChatFormat
from stopper.scripted.completions import CompletionFormat
from stopper.scripted.emission import TRANSPORT, Emission
from stopper.scripted.engine import Engine, Seen
from stopper.scripted.faults import Fault
from stopper.scripted.formats import Format
from stopper.scripted.requests import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    ResponsesRequest,
    TokenizeRequest,
)
from stopper.scripted.responses import ResponsesFormat
from stopper.scripted.run import Run
from stopper.scripted.script import Script, default_script

_OWN = "/scripted"


class ScriptedEngine(FastAPI):
    """The application; `engine` is its state."""

    engine: Engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Keep hold of the connection, which faults break, and write the log."""
        if scope["type"] != "http" or scope["path"].startswith(_OWN):
            await super().__call__(scope, receive, send)
            return
        # uvicorn's `send` is a method of the object that holds the connection.
        scope[TRANSPORT] = getattr(getattr(send, "__self__", None), "transport", None)
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        seen = Seen(scope["method"], scope["path"], headers)
        scope["scripted.seen"] = seen
        self.engine.log.append(seen)

        async def told(message: Any) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
            await send(message)

        await super().__call__(scope, receive, told)


def create_app(script: Script | None = None, *, sidecar: Any = None) -> ScriptedEngine:
    """Build the server.

    Parameters
    ----------
    script
        The built-in one if None.
    sidecar
        `stopper.scripted.remote.Sidecar`: who decides at the cues, instead of the script.

    """
    engine = Engine(default_script() if script is None else script, sidecar)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if engine.sidecar is not None:
            await engine.sidecar.close()

    app = ScriptedEngine(title="Scripted engine", lifespan=lifespan)
    app.engine = engine
    _answer_errors(app)
    _add_generation(app, engine)
    _add_server(app, engine)
    _add_stopper(app, engine)
    _add_own(app, engine)
    return app


def _error(status: int, message: str, kind: str, headers: dict[str, str] | None = None) -> Response:
    body = {"error": {"message": message, "type": kind, "param": None, "code": status}}
    return JSONResponse(body, status, headers)


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(InputError)
    async def bad(_: Request, error: InputError) -> Response:
        return _error(400, str(error), "BadRequestError")

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        parts = (
            f"{'.'.join(map(str, item['loc'][1:]))}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        )
        return _error(400, "; ".join(parts), "Bad Request")


def _add_generation(app: FastAPI, engine: Engine) -> None:
    @app.post("/v1/chat/completions")
    async def chat(request: Request, asked: ChatRequest) -> Response:
        base = request.headers.get("x-request-id") or secrets.token_hex(16)
        limit = asked.max_completion_tokens
        return _answer(
            engine, request, asked,
            name=f"chatcmpl-{base}", numbering="",
            ids=engine.tokenizer.encode(prompts.render(asked.messages)),
            limit=asked.max_tokens if limit is None else limit,
            form=lambda run, model: ChatFormat(run, asked, model),
        )  # fmt: skip

    @app.post("/v1/completions")
    async def complete(request: Request, asked: CompletionRequest) -> Response:
        base = request.headers.get("x-request-id") or secrets.token_hex(16)
        prompt = asked.one
        return _answer(
            engine, request, asked,
            name=f"cmpl-{base}", numbering="-0",
            ids=engine.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt,
            limit=asked.max_tokens,
            form=lambda run, model: CompletionFormat(run, asked, model),
        )  # fmt: skip

    @app.post("/v1/responses")
    async def respond(request: Request, asked: ResponsesRequest) -> Response:
        return _answer(
            engine, request, asked,
            name=asked.request_id or f"resp_{secrets.token_hex(16)}", numbering="_0",
            ids=engine.tokenizer.encode(prompts.render(asked.messages)),
            limit=asked.max_output_tokens,
            form=lambda run, model: ResponsesFormat(run, asked, model),
        )  # fmt: skip


def _answer(
    engine: Engine, request: Request, asked: Any, *, name: str, numbering: str,
    ids: list[int], limit: int | None, form: Any,
) -> Response:  # fmt: skip
    seen: Seen = request.scope["scripted.seen"]
    seen.body = asked.model_dump(exclude_unset=True)
    refused = _unauthorized(engine, request) or _unknown(engine, asked.model)
    if refused is not None:
        return refused
    run: Run = engine.start(
        response_id=name, numbering=numbering, prompt_ids=ids, max_tokens=limit,
        xargs=asked.vllm_xargs, trace=request.headers.get(prompts.HEADER),
    )  # fmt: skip
    seen.response_id, seen.trace = run.response_id, run.trace.name
    try:
        fault = engine.faults.meet(
            request.headers.get(faults.HEADER), run.trace.name, run.trace.fault
        )
        seen.fault = None if fault is None else fault.kind
        if fault is None or fault.kind != "status":
            made: Format = form(run, engine.script.model)
            return Emission(engine, made, seen, fault, stream=asked.stream)
    except InputError:
        engine.drop(run)
        raise
    engine.drop(run)
    wait = None if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return _error(fault.code, "a scripted fault", "ScriptedFault", wait)


def _unauthorized(engine: Engine, request: Request) -> Response | None:
    key = engine.script.api_key
    given = request.headers.get("authorization", "")
    if key is None or hmac.compare_digest(given.encode(), f"Bearer {key}".encode()):
        return None
    return JSONResponse({"error": "Unauthorized"}, 401)


def _unknown(engine: Engine, model: str | None) -> Response | None:
    if model in (None, engine.script.model):
        return None
    return _error(404, f"The model `{model}` does not exist.", "NotFoundError")


def _add_server(app: FastAPI, engine: Engine) -> None:
    script, started = engine.script, int(time.time())

    @app.get("/health")
    async def health() -> Response:
        return Response()

    @app.get("/version")
    async def version() -> dict[str, str]:
        return {"version": "scripted"}

    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        refused = _unauthorized(engine, request)
        card = {"id": script.model, "object": "model", "created": started, "owned_by": "vllm",
                "root": script.model, "parent": None, "max_model_len": script.max_model_len,
                "permission": []}  # fmt: skip
        return refused or JSONResponse({"object": "list", "data": [card]})

    @app.post("/tokenize")
    async def tokenize(asked: TokenizeRequest) -> dict[str, Any]:
        text = prompts.render(asked.messages) if asked.messages is not None else asked.prompt or ""
        ids = engine.tokenizer.encode(text)
        strings = (
            [engine.tokenizer.decode([one]) for one in ids] if asked.return_token_strs else None
        )
        return {"count": len(ids), "max_model_len": script.max_model_len, "tokens": ids,
                "token_strs": strings}  # fmt: skip

    @app.post("/detokenize")
    async def detokenize(asked: DetokenizeRequest) -> dict[str, str]:
        return {"prompt": engine.tokenizer.decode(asked.tokens)}

    @app.get("/metrics")
    async def metrics() -> Response:
        quoted = script.model.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        name = f'{{model_name="{quoted}"}}'
        rows = (
            ("num_requests_running", "gauge", engine.running),
            ("num_requests_waiting", "gauge", 0),
            ("prompt_tokens_total", "counter", engine.prompt_tokens),
            ("generation_tokens_total", "counter", engine.generated_tokens),
        )
        lines = [
            f"# TYPE vllm:{row} {kind}\nvllm:{row}{name} {value}\n" for row, kind, value in rows
        ]
        return PlainTextResponse("".join(lines), media_type="text/plain; version=0.0.4")


def _add_stopper(app: FastAPI, engine: Engine) -> None:
    if not engine.script.stopper:
        return

    @app.get("/stopper/decisions")
    async def decisions(
        limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    ) -> dict[str, list[dict[str, Any]]]:
        return {"decisions": engine.decisions(limit)}

    @app.get("/stopper/decisions/{request_id:path}")
    async def decision(request_id: str) -> dict[str, Any]:
        found = engine.decision(request_id)
        if found is None:
            raise HTTPException(404, f"no decision is known of request {request_id!r}")
        return found

    @app.get("/stopper/counters")
    async def counters() -> dict[str, dict[str, int]]:
        return engine.counters()

    @app.get("/stopper/metrics")
    async def counters_for_prometheus() -> Response:
        return Response(exposition(engine.counters()), media_type=CONTENT_TYPE)

    @app.post("/stopper/requests/{request_id:path}/stop-thinking")
    async def stop_thinking(request_id: str) -> Response:
        found = engine.stop_thinking(request_id)
        status = {"stopping": 200, "unknown": 404}.get(found["outcome"], 409)
        return JSONResponse(found, status)


def _add_own(app: FastAPI, engine: Engine) -> None:
    @app.get(f"{_OWN}/log")
    async def log() -> dict[str, list[dict[str, Any]]]:
        return {"requests": [asdict(seen) for seen in engine.log]}

    @app.delete(f"{_OWN}/log")
    async def forget() -> dict[str, int]:
        count = len(engine.log)
        engine.log.clear()
        return {"forgotten": count}

    @app.put(f"{_OWN}/fault")
    async def set_fault(fault: Fault) -> Fault:
        engine.faults.set(fault)
        return fault

    @app.delete(f"{_OWN}/fault", status_code=204)
    async def heal() -> None:
        engine.faults.set(None)
