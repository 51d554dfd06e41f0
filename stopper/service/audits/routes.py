"""`POST /v1/audits` and `POST /v1/alarm/re-arm`."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Annotated

import msgspec
from fastapi import Depends, FastAPI, Request, Response

from calibration.monitor import Audit
from stopper.service.audits import reading
from stopper.service.audits.desk import Desk, Fate
from stopper.service.audits.records import MOST_AUDITS, LeftOut, Rearm, RearmedAnswer, Receipt
from stopper.service.auth import require
from stopper.service.problems import refuse
from stopper.service.runtime import Runtime
from stopper.service.schemas import content, reference
from stopper.service.store import StoreUnavailable

PATIENCE_S = 5.0
"""Seconds that an answer waits for its audits to be counted."""

_EXAMPLE = {
    "request_id": "cmpl-1",
    "time": "2026-03-01T12:00:00Z",
    "artifact": "0123456789abcdef",
    "alpha": 0.05,
    "loss_name": "disagree",
    "marked": True,
    "loss": 0,
    "score": 3.25,
    "cues": 7,
    "tokens": 812,
    "top_score": 4.5,
}


def attach(app: FastAPI, runtime: Runtime, desk: Desk) -> None:
    """Add the routes."""
    audit = reference(app, Audit)
    many = {
        "type": "object",
        "required": ["audits"],
        "additionalProperties": False,
        "properties": {
            "audits": {"type": "array", "items": audit, "minItems": 1, "maxItems": MOST_AUDITS}
        },
    }
    body = {"anyOf": [audit, many]}

    @app.post(
        "/v1/audits",
        tags=["audits"],
        summary="Hand in audited requests",
        response_class=Response,
        responses={
            200: {"content": content(app, Receipt), "description": "What became of them."},
            202: {"content": content(app, Receipt), "description": "Some wait for the store."},
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": body, "example": _EXAMPLE}},
            }
        },
    )
    async def audits(request: Request, _: Annotated[str, Depends(require("decide"))]) -> Response:
        """Count audits of requests that did not come through the OpenAI-compatible front.

        A request counts once, however often it is handed in: repeat a body that was not answered.
        """
        found = reading.read(request.headers.get("content-type"), await request.body())
        _require_loss(runtime, found)
        receipt = await _hand_in(runtime, desk, found)
        return _answer(receipt, 202 if receipt.waiting else 200)

    @app.post(
        "/v1/alarm/re-arm",
        tags=["audits"],
        summary="Take an alarm back",
        response_class=Response,
        responses={
            200: {"content": content(app, RearmedAnswer), "description": "It may stop again."}
        },
        openapi_extra={"requestBody": {"required": True, "content": content(app, Rearm)}},
    )
    async def re_arm(request: Request, name: Annotated[str, Depends(require("admin"))]) -> Response:
        """Let an artifact stop again on all replicas, and watch it anew.

        The old audits stay in the store; they no longer count. Each new beginning may raise a false
        alarm anew, with probability `audits.delta`.
        """
        try:
            asked = msgspec.json.decode(await request.body(), type=Rearm)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            refuse("bad-request", f"{error}"[:400])
        try:
            rearmed = await desk.re_arm(asked.artifact, name, asked.why)
        except StoreUnavailable:
            refuse("unavailable", "The store cannot be reached: nothing was changed. Try again.")
        generation = runtime.board.current.generation
        return _answer(RearmedAnswer(asked.artifact, rearmed, generation), 200)


def _require_loss(runtime: Runtime, audits: list[Audit]) -> None:
    for place, audit in enumerate(audits):
        served = runtime.catalog.version(audit.artifact)
        if served is not None and audit.loss_name != served.record.loss:
            refuse(
                "unprocessable",
                f"audits[{place}].loss_name: {audit.loss_name!r}, but artifact {audit.artifact} "
                f"promises by {served.record.loss!r}. Nothing was counted.",
            )


async def _hand_in(runtime: Runtime, desk: Desk, audits: list[Audit]) -> Receipt:
    by_version: defaultdict[str, list[Audit]] = defaultdict(list)
    for audit in audits:
        by_version[audit.artifact].append(audit)
    offers = [(own, desk.offer(own)) for own in by_version.values()]
    await asyncio.wait([future for _, future in offers], timeout=PATIENCE_S)
    fates: list[tuple[Audit, Fate]] = []
    for own, future in offers:
        told: list[Fate] = future.result() if future.done() else ["waiting"] * len(own)
        fates += zip(own, told, strict=True)
    counts = [fate for _, fate in fates]
    return Receipt(
        counted=counts.count("counted"),
        waiting=counts.count("waiting"),
        left_out=[
            LeftOut(audit.request_id, audit.artifact, fate)
            for audit, fate in fates
            if fate not in ("counted", "waiting")
        ],
        alarms=[name for name in by_version if name in runtime.board.current.alarms],
    )


def _answer(record: msgspec.Struct, status: int) -> Response:
    return Response(msgspec.json.encode(record), status, media_type="application/json")
