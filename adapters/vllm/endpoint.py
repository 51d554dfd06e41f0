"""`/stopper/...` on vLLM's own server: decisions, counters, metrics, and "stop thinking now".

vLLM serves routes of a plugin only if `VLLM_PLUGINS` names it: set `VLLM_PLUGINS=stopper` (and
list your other plugins there too).
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from fastapi import APIRouter, FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse, Response

from adapters.vllm.stop_thinking import Outcome
from stopper.exposition import CONTENT_TYPE, exposition

Method: TypeAlias = Literal[
    "stopper_decisions", "stopper_decision", "stopper_stop_thinking", "stopper_counters"
]

_STATUS: dict[Outcome, int] = {
    "stopping": 200,
    "already_stopping": 409,
    "not_thinking": 409,
    "not_watched": 409,
    "unknown": 404,
}
_DETAIL: dict[Outcome, str] = {
    "stopping": "the thinking is closed with the next step, and the answer follows",
    "already_stopping": "the thinking is being closed already",
    "not_thinking": "the request is not thinking: it answers, or has not begun to think",
    "not_watched": "stopper has no hand in this request",
    "unknown": "no such request is running: it is finished, waits for its turn, or never was",
}
_ENGINE_0 = (
    "; all data-parallel engines were asked and only the first one's answer comes back, so it may "
    "have been stopped all the same"
)


class DecisionsEndpoint:
    """An `EndpointPlugin` of vLLM."""

    name = "stopper"
    required_tasks = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Add the routes."""
        app.include_router(_router())

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Keep the engine at hand."""
        state.stopper_engine = engine_client


def _router() -> APIRouter:
    router = APIRouter(prefix="/stopper")

    @router.get("/decisions")
    async def decisions(
        request: Request, limit: int = Query(100, ge=1, le=10_000)
    ) -> dict[str, list[dict[str, Any]]]:
        """Return the newest decisions, newest last."""
        ranks = await _ask(request, "stopper_decisions", limit)
        return {"decisions": [record for rank in ranks for record in rank]}

    @router.get("/decisions/{request_id:path}")
    async def decision(request: Request, request_id: str) -> dict[str, Any]:
        """Return one request's decision by the id of its response."""
        for record in await _ask(request, "stopper_decision", request_id):
            if record is not None:
                return dict(record)
        raise HTTPException(404, f"no decision is known of request {request_id!r}")

    @router.post("/requests/{request_id:path}/stop-thinking")
    async def stop_thinking(request: Request, request_id: str) -> JSONResponse:
        """Close the thinking of a running request by the id of its response."""
        ranks = await _ask(request, "stopper_stop_thinking", request_id)
        found = next((dict(rank) for rank in ranks if rank is not None), None)
        if found is None or _over(request, found["request_ids"]):
            found = {"outcome": "unknown", "reason": None, "request_ids": []}
        outcome: Outcome = found["outcome"]
        detail = _DETAIL[outcome]
        parallel = request.app.state.vllm_config.parallel_config
        if outcome == "unknown" and parallel.data_parallel_size > 1:
            detail += _ENGINE_0
        return JSONResponse({**found, "detail": detail}, _STATUS[outcome])

    @router.get("/counters")
    async def counters(request: Request) -> dict[str, dict[str, int]]:
        """Return the counters by name and label."""
        return await _counters(request)

    @router.get("/metrics")
    async def metrics(request: Request) -> Response:
        """Return the counters for Prometheus."""
        return Response(exposition(await _counters(request)), media_type=CONTENT_TYPE)

    return router


async def _counters(request: Request) -> dict[str, dict[str, int]]:
    for rank in await _ask(request, "stopper_counters"):
        if rank:
            return dict(rank)
    return {}


async def _ask(request: Request, method: Method, *arguments: Any) -> list[Any]:
    additional = request.app.state.vllm_config.additional_config
    if not (isinstance(additional, dict) and "stopper" in additional):
        raise HTTPException(409, "stopper is off: start with --additional-config")
    found: list[Any] = await request.app.state.stopper_engine.collective_rpc(method, args=arguments)
    return found


def _over(request: Request, engine_ids: list[str]) -> bool:
    """Tell whether all these requests have ended, which a worker hears of with its next step only.

    The server knows, if it is one process: of several each knows its own requests.
    """
    if request.app.state.vllm_config.parallel_config._api_process_count != 1:
        return False
    processor = getattr(request.app.state.stopper_engine, "output_processor", None)
    return processor is not None and not any(map(processor.has_request, engine_ids))
