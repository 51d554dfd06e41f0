"""Audits, finished requests and scripted engines for the tests of the audits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from sidecars import ARTIFACT, MODEL

from calibration.monitor import Audit
from stopper.scripted.app import ScriptedEngine
from stopper.scripted.app import create_app as engine_app
from stopper.scripted.script import Piece, Script, Threshold, Trace
from stopper.service.catalog import Served
from stopper.service.proxy.finished import FinishedRequest
from stopper.service.settings import ArtifactSource
from stopper.wire import Report

SERVED = Served.read(ArtifactSource(folder=ARTIFACT, model=MODEL), None)
VERSION = SERVED.version
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


def fields(number: int = 0, **changes: Any) -> dict[str, Any]:
    """An audit as JSON, marked and good; of now, unless told otherwise."""
    found: dict[str, Any] = {
        "request_id": f"r{number}",
        "time": datetime.now(UTC).isoformat(),
        "artifact": VERSION,
        "alpha": 0.05,
        "loss_name": "disagree",
        "marked": True,
        "loss": 0,
        "score": 2.0,
        "cues": 3,
        "tokens": 250,
        "top_score": 4.0,
    }
    return found | changes


def audit(number: int = 0, **changes: Any) -> Audit:
    time = BEGIN + timedelta(seconds=number)
    return Audit.model_validate(fields(number, time=time, **changes))


def bad(numbers: range) -> dict[str, Any]:
    return {"audits": [fields(number, loss=1) for number in numbers]}


def engine(**changes: Any) -> ScriptedEngine:
    """A scripted engine that names the example artifact; prompts with "right" are marked well."""
    pieces = [Piece(text="Let me see. Wait", cue="wait", score=2.5, forced_answer="\\boxed{7}")]
    rest = Piece(text=", again. Hmm", cue="hmm", score=3.5, forced_answer="\\boxed{7}")
    traces = [
        Trace(name="right", match="right", pieces=(*pieces, rest), answer="So \\boxed{7}"),
        Trace(name="wrong", match="wrong", pieces=(*pieces, rest), answer="So \\boxed{8}"),
        Trace(name="same", match="same", pieces=(*pieces, rest), answer="\\boxed{7.0}"),
        Trace(name="mute", match="mute", pieces=(*pieces, rest), answer="I cannot say."),
        Trace(name="calm", pieces=(Piece(text="Hmm", cue="hmm", score=0.5),), answer="\\boxed{1}"),
        Trace(name="plain", match="plain", pieces=(Piece(text="Easy"),), answer="\\boxed{1}"),
    ]
    script: dict[str, Any] = {
        "model": MODEL,
        "artifact": VERSION,
        "alpha": 0.05,
        "thresholds": (Threshold(alpha=0.05, threshold=1.0),),
        "think_id": 540,
        "end_of_thinking_id": 541,
        "traces": tuple(traces),
    }
    return engine_app(Script(**script | changes))


async def ask(client: httpx.AsyncClient, text: str, **more: Any) -> httpx.Response:
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}
    answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer


async def hand_in(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post("/v1/audits", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def standing(client: httpx.AsyncClient) -> dict[str, Any] | None:
    (artifact,) = (await client.get("/v1/status")).json()["artifacts"]
    found: dict[str, Any] | None = artifact["standing"]
    return found


async def audits_of(client: httpx.AsyncClient) -> tuple[int, int]:
    """Audits and bad ones."""
    found = await standing(client)
    return (0, 0) if found is None else (found["audits"], found["bad"])


async def counted(client: httpx.AsyncClient, name: str) -> dict[str, float]:
    """A counter of `/metrics`, by the value of its only label."""
    text = (await client.get("/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith(name + "{")]
    return {line.split('"')[1]: float(line.rpartition(" ")[2]) for line in lines}


async def outcomes(client: httpx.AsyncClient) -> dict[str, float]:
    return await counted(client, "stopper_audits_total")


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> float:
    """Wait; return how long it took, in seconds."""
    begun = time.monotonic()
    while not await holds():
        assert time.monotonic() < begun + seconds, f"not within {seconds} s"
        await asyncio.sleep(0.01)
    return time.monotonic() - begun


def finished(number: int = 0, **changes: Any) -> FinishedRequest:
    """An audited request that was marked after two tokens of its thinking."""
    values: dict[str, Any] = {
        "request_id": f"r{number}",
        "response_id": f"chatcmpl-r{number}",
        "model": MODEL,
        "path": "/v1/chat/completions",
        "upstream": "http://127.0.0.1:1",
        "upstream_headers": {},
        "audited": True,
        "prompt_token_ids": (540, 10, 11),
        "output_token_ids": (20, 21, 22, 541, 30, 31, 0),
        "record": record(),
        "report": Report("audited"),
        "time": BEGIN + timedelta(seconds=number),
        "finish_reason": "stop",
    }
    return FinishedRequest(**values | changes)


def record(**changes: Any) -> dict[str, Any]:
    """An engine's record of a marked request."""
    found = {
        "request_id": "chatcmpl-r0-12345678",
        "decision": "marked",
        "reason": "score_above_threshold",
        "position": 2,
        "score": 2.0,
        "threshold": 1.5,
        "alpha": 0.05,
        "cue": "wait",
        "cues": 2,
        "top_score": 3.0,
        "cue_scores": [[2, 2.0], [3, 3.0]],
        "prompt_tokens": 3,
        "artifact": VERSION,
        "running": False,
    }
    return found | changes
