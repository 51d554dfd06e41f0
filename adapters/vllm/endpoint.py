"""`GET /stopper/...` on vLLM's own server: the decisions, one by one, and the counters.

vLLM serves routes of a plugin only if `VLLM_PLUGINS` names it: set `VLLM_PLUGINS=stopper` (and
list your other plugins there too).
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, FastAPI, HTTPException, Query, Request


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

    async def ask(request: Request, method: Literal["stopper_decisions", "stopper_counters"],
                  *arguments: Any) -> list[Any]:  # fmt: skip
        additional = request.app.state.vllm_config.additional_config
        if not (isinstance(additional, dict) and "stopper" in additional):
            raise HTTPException(409, "stopper is off: start with --additional-config")
        engine = request.app.state.stopper_engine
        found: list[Any] = await engine.collective_rpc(method, args=arguments)
        return found

    @router.get("/decisions")
    async def decisions(
        request: Request, limit: int = Query(100, ge=1, le=10_000)
    ) -> dict[str, list[dict[str, Any]]]:
        """Return the newest decisions, newest last."""
        ranks = await ask(request, "stopper_decisions", limit)
        return {"decisions": [record for rank in ranks for record in rank]}

    @router.get("/decisions/{request_id}")
    async def decision(request: Request, request_id: str) -> dict[str, Any]:
        """Return one request's decision by the id of its response."""
        ranks = await ask(request, "stopper_decisions", 10_000)
        for record in (record for rank in ranks for record in reversed(rank)):
            if request_id in (record["request_id"], record["request_id"].rsplit("-", 1)[0]):
                return dict(record)
        raise HTTPException(404, f"no decision is known of request {request_id!r}")

    @router.get("/counters")
    async def counters(request: Request) -> dict[str, dict[str, int]]:
        """Return the counters by name and label."""
        for rank in await ask(request, "stopper_counters"):
            if rank:
                return dict(rank)
        return {}

    return router
