"""`POST /v1/stop-decisions`."""

from __future__ import annotations

from time import perf_counter

import msgspec
from fastapi import Depends, FastAPI, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from stopper.schedule import Schedule
from stopper.service.auth import require
from stopper.service.decisions.decider import Decider
from stopper.service.decisions.description import SUMMARY, TEXT, answer, request_body
from stopper.service.decisions.reading import read
from stopper.service.decisions.tally import Tally
from stopper.service.problems import problem, respond
from stopper.service.runtime import Runtime
from stopper.wire import Decision, Decisions

PATH = "/v1/stop-decisions"
MSGPACK = "application/msgpack"

_json = msgspec.json.Encoder()
_msgpack = msgspec.msgpack.Encoder()


def attach(app: FastAPI, runtime: Runtime) -> None:
    """Add the endpoint, and what tells metrics and store of it.

    Raises
    ------
    InputError
        If the schedule of the settings is none.

    """
    settings = runtime.settings
    schedule = settings.schedule
    tally = Tally(runtime.metrics, runtime.store)
    decider = Decider(
        runtime.catalog,
        runtime.store,
        runtime.board,
        None if schedule is None else Schedule(**schedule.model_dump()),
        settings.audits.share,
        not_decided=tally.not_decided,
    )

    async def stop_decisions(request: Request) -> Response:
        try:
            body = await request.body()
        except ClientDisconnect:
            return respond(problem("bad-request", "The body ended early."))
        begun = perf_counter()
        headers = request.headers
        items, batch = read(headers.get("content-type"), body)
        answers = await decider.decide(items)
        tally.add(items, answers, perf_counter() - begun)
        found: Decision | Decisions = Decisions(answers) if batch else answers[0]
        if isinstance(found, Decision) and found.problem is not None:
            return respond(found.problem)
        if MSGPACK in headers.get("accept", ""):
            return Response(_msgpack.encode(found), media_type=MSGPACK)
        return Response(_json.encode(found), media_type="application/json")

    app.add_api_route(
        PATH,
        stop_decisions,
        methods=["POST"],
        summary=SUMMARY,
        description=TEXT,
        dependencies=[Depends(require("decide"))],
        response_class=Response,
        response_model=None,
        responses={200: answer(app)},
        openapi_extra={"requestBody": request_body(app)},
        tags=["decisions"],
    )
    runtime.while_running(tally.running)
