"""The OpenAPI document: every route tells its problems, and which key it needs."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from stopper.service.examples import EXAMPLES
from stopper.service.problems import MEDIA_TYPE, TITLES
from stopper.service.schemas import registered

TAGS = {
    "decisions": "Stop decisions at cues, for engines in remote mode.",
    "context": "Retrieved documents, without the sentences that cannot help.",
    "openai": "The OpenAI-compatible front.",
    "audits": "Audited requests and the drift alarm.",
    "status": "What the sidecar sees and does.",
    "admin": "Artifacts and the kill switch.",
    "health": "Probes and metrics.",
}

_ANY = (400, 500)
_WITH_KEY = (401, 403, 404, 409, 429, 503)
_WITH_BODY = (408, 413, 415, 422)
_FRONT = (502, 504)

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "A problem document (RFC 9457).",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "enum": [f"urn:stopper:problem:{name}" for name in TITLES]},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "The request id, where there is one."},
    },
    "example": {
        "type": "urn:stopper:problem:unknown-model",
        "title": TITLES["unknown-model"][1],
        "status": 404,
        "detail": "model 'huge' is not served here; served are: tiny",
    },
}


def operation_id(route: APIRoute) -> str:
    """Name an operation by its path and method, such as post_v1_stop_decisions."""
    slug = re.sub(r"\W+", "_", route.path).strip("_")
    return f"{min(route.methods).lower()}_{slug}"


def install(app: FastAPI) -> None:
    """Let `app.openapi` build the document, once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    found = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    components = found.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):  # never sent: they become problems
        schemas.pop(name, None)
    schemas.update(registered(app))
    schemas["Problem"] = PROBLEM_SCHEMA
    for name, schema in schemas.items():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
        if name in EXAMPLES:
            schema["example"] = EXAMPLES[name]
    for operations in found["paths"].values():
        for operation in operations.values():
            _add_problems(operation)
    return found


def _add_problems(operation: dict[str, Any]) -> None:
    responses = operation.setdefault("responses", {})
    if "HTTPValidationError" in json.dumps(responses.get("422", {})):
        del responses["422"]
    front = "openai" in operation.get("tags", ())
    statuses = [*_ANY]
    if "security" in operation:
        statuses += _WITH_KEY
    if "requestBody" in operation:
        statuses += _WITH_BODY
    if front:
        statuses += _FRONT
    for status in statuses:
        if str(status) in responses:
            continue
        content: dict[str, Any] = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        if front:
            content["application/json"] = {"schema": {"description": "The engine's own error."}}
        titles = " / ".join(text for code, text in TITLES.values() if code == status)
        responses[str(status)] = {"description": titles, "content": content}
    operation["responses"] = dict(sorted(responses.items()))


def snapshot() -> str:
    """Return the document of a sidecar with all its parts, as it is committed."""
    from stopper.service.app import create_app
    from stopper.service.settings import ServeSettings, Upstream

    defaults = {name: field.default for name, field in ServeSettings.model_fields.items()}
    # Not read: neither a variable nor a file changes the snapshot. The engine is never asked.
    settings = ServeSettings.model_construct(
        **{**defaults, "upstreams": (Upstream(url="http://127.0.0.1:8000"),)}
    )
    document = create_app(settings).openapi()
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
