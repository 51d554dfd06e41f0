"""The OpenAPI document: every route tells its problems, and which key it needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from stopper.service.problems import MEDIA_TYPE, TITLES
from stopper.service.schemas import registered

TAGS = {
    "decisions": "Stop decisions at cues, for engines in remote mode.",
    "openai": "The OpenAI-compatible front.",
    "audits": "Audited requests and the drift alarm.",
    "status": "What the sidecar sees and does.",
    "admin": "Artifacts and the kill switch.",
    "health": "Probes and metrics.",
}

_OPEN = (500,)
_ALL = (400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 503)
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
    for path, operations in found["paths"].items():
        for operation in operations.values():
            _add_problems(operation, path)
    return found


def _add_problems(operation: dict[str, Any], path: str) -> None:
    responses = operation.setdefault("responses", {})
    if "HTTPValidationError" in json.dumps(responses.get("422", {})):
        del responses["422"]
    front = "openai" in operation.get("tags", ())
    statuses = (_ALL + (_FRONT if front else ())) if "security" in operation else _OPEN
    for status in statuses:
        if str(status) not in responses:
            titles = " / ".join(text for code, text in TITLES.values() if code == status)
            responses[str(status)] = {
                "description": titles,
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }
    operation["responses"] = dict(sorted(responses.items()))


def write(file: Path) -> None:
    """Write the document of a sidecar with all its parts."""
    from stopper.service.app import create_app
    from stopper.service.settings import ServeSettings

    app = create_app(
        ServeSettings.model_construct(
            **{
                **{name: field.default for name, field in ServeSettings.model_fields.items()},
            }
        )
    )
    text = json.dumps(app.openapi(), indent=1, ensure_ascii=False, sort_keys=True)
    file.write_text(text + "\n", encoding="utf-8")
