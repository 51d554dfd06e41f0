"""`POST /v1/context/compress`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from fastapi import Depends, FastAPI, Request
from starlette.responses import Response

from stopper.context import ESTIMATE, Compressed, Document
from stopper.errors import InputError
from stopper.service.auth import require
from stopper.service.compression.compressor import Compressor, CompressorFault
from stopper.service.problems import ProblemError, refuse
from stopper.service.runtime import Runtime
from stopper.service.schemas import content, reference
from stopper.wire import Compression, CompressRequest, ContextFault, KeptSentence, KeptText

PATH = "/v1/context/compress"

_decode = msgspec.json.Decoder(CompressRequest).decode
_PROBLEMS: dict[ContextFault, str] = {
    "timeout": "unavailable", "busy": "unavailable", "too_large": "unprocessable",
    "fault": "internal",
}  # fmt: skip

_EXAMPLE = {
    "query": "What is the capital of Australia?",
    "documents": [
        {
            "id": "c",
            "title": "Canberra",
            "text": "It is a city. Canberra is the capital of Australia. It has lakes.",
        }
    ],
    "floor": 1,
}


def attach(app: FastAPI, runtime: Runtime) -> Compressor | None:
    """Add the endpoint; without `context.enabled` it answers 404 and nothing is loaded.

    Raises
    ------
    StopperError
        If the filter cannot be loaded.

    """
    settings = runtime.settings.context
    compressor = Compressor(settings, runtime.metrics) if settings.enabled else None

    @app.post(
        PATH,
        tags=["context"],
        summary="Drop the sentences that cannot help",
        response_class=Response,
        responses={
            200: {
                "content": content(app, Compression),
                "description": "What is left, and where the kept sentences lie.",
            }
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": reference(app, CompressRequest),
                        "example": _EXAMPLE,
                    }
                },
            }
        },
    )
    async def compress(request: Request, _: Annotated[str, Depends(require("decide"))]) -> Response:
        """Keep the sentences of some documents that a question may need (docs/context.md)."""
        if compressor is None:
            refuse("not-found", "This sidecar compresses nothing: start it with --context.")
        asked = _read(request.headers.get("content-type", ""), await request.body())
        documents = [Document(one.title, one.text, one.id) for one in asked.documents]
        try:
            found = await compressor.compress(
                "endpoint", asked.query, documents, asked.threshold, asked.alpha, asked.floor
            )
        except CompressorFault as error:
            headers = {"Retry-After": "1"} if error.fault == "busy" else None
            raise ProblemError(_PROBLEMS[error.fault], str(error), headers=headers) from None
        except InputError as error:
            refuse("unprocessable", str(error))
        answer = told(found, documents, compressor.filter.artifact)
        return Response(msgspec.json.encode(answer), media_type="application/json")

    if compressor is not None:
        running = compressor

        @contextlib.asynccontextmanager
        async def lifespan() -> AsyncIterator[None]:
            running.warm()
            try:
                yield
            finally:
                running.close()

        runtime.while_running(lifespan)
        runtime.details["context"] = lambda: {"artifact": running.filter.artifact}
    app.state.compressor = compressor
    return compressor


def told(found: Compressed, documents: list[Document], artifact: str | None) -> Compression:
    """Make the answer."""
    kept: list[list[KeptSentence]] = [[] for _ in documents]
    for one in found.kept:
        score = None if math.isnan(one.score) else one.score
        kept[one.document].append(KeptSentence(one.start, one.end, score))
    return Compression(
        [
            KeptText(document.id, text, kept[index], found.duplicates.get(index))
            for index, (document, text) in enumerate(zip(documents, found.documents, strict=True))
        ],
        found.tokens_in,
        found.tokens_out,
        ESTIMATE,
        artifact,
        finite(found.threshold),
        found.reason,
    )


def finite(threshold: float) -> float | None:
    """Return a threshold as JSON can say it."""
    return threshold if math.isfinite(threshold) else None


def _read(kind: str, body: bytes) -> CompressRequest:
    if kind.partition(";")[0].strip().lower() != "application/json":
        refuse("unsupported-media-type", "Send application/json.")
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        refuse("bad-request", f"body: {error}")
