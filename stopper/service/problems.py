"""Every error as a problem document (RFC 9457), also those that the framework raises."""

from __future__ import annotations

import logging
from typing import NoReturn

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from stopper.wire import Problem

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

TITLES = {
    "bad-request": (400, "The request is not what it should be"),
    "unauthorized": (401, "An API key is needed"),
    "forbidden": (403, "This API key may not do that"),
    "unknown-model": (404, "No artifact serves this model"),
    "not-found": (404, "There is no such thing here"),
    "method-not-allowed": (405, "This method is not allowed here"),
    "timeout": (408, "The request took too long to arrive"),
    "conflict": (409, "This contradicts what is known"),
    "out-of-order": (409, "The positions of a trace must ascend"),
    "too-large": (413, "The request is too large"),
    "unsupported-media-type": (415, "This content type is not understood"),
    "unprocessable": (422, "The request cannot be decided on"),
    "too-many-requests": (429, "Too many requests"),
    "internal": (500, "A fault of the sidecar"),
    "upstream-failed": (502, "The engine failed"),
    "unavailable": (503, "Not available now"),
    "upstream-timeout": (504, "The engine did not answer in time"),
}
"""Name: (HTTP status, title). The closed set of problem types."""

_BY_STATUS = {400: "bad-request", 401: "unauthorized", 403: "forbidden", 404: "not-found",
              405: "method-not-allowed", 413: "too-large", 415: "unsupported-media-type",
              422: "unprocessable", 429: "too-many-requests", 503: "unavailable"}  # fmt: skip


class ProblemError(Exception):
    """Raise to answer with a problem document.

    Parameters
    ----------
    name
        Of `TITLES`.
    detail
        What is wrong here, and the remedy.
    headers
        To send along, such as Retry-After.

    """

    def __init__(
        self,
        name: str,
        detail: str,
        *,
        instance: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.name = name
        self.problem = problem(name, detail, instance)
        self.headers = headers


def problem(name: str, detail: str, instance: str = "") -> Problem:
    """Build a problem document."""
    status, title = TITLES[name]
    return Problem(f"urn:stopper:problem:{name}", title, status, detail, instance)


def refuse(name: str, detail: str) -> NoReturn:
    """Raise a `ProblemError`."""
    raise ProblemError(name, detail)


def respond(found: Problem, headers: dict[str, str] | None = None) -> Response:
    """Answer with a problem document."""
    return Response(msgspec.json.encode(found), found.status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem document."""

    async def known(_: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)
        return respond(error.problem, error.headers)

    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        name = _BY_STATUS.get(error.status_code, "bad-request")
        found = msgspec.structs.replace(problem(name, str(error.detail)), status=error.status_code)
        return respond(found, dict(error.headers) if error.headers else None)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        of_body = any(fault["loc"][0] == "body" for fault in error.errors())
        if of_body and error.body and kind != "application/json":
            return respond(problem("unsupported-media-type", "Send application/json."))
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:8]
        )
        return respond(problem("bad-request", faults))

    async def gone(_: Request, __: Exception) -> Response:
        return respond(problem("bad-request", "The body ended early."))  # nobody reads it

    async def fault(_: Request, error: Exception) -> Response:
        logger.error("fault in a request", exc_info=error)
        return respond(problem("internal", "The log has the details."))

    app.add_exception_handler(ProblemError, known)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, fault)
