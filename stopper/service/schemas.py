"""Schemas of msgspec and pydantic records in the OpenAPI document."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI
from pydantic import BaseModel

_TEMPLATE = "#/components/schemas/{name}"


def reference(app: FastAPI, record: type[msgspec.Struct] | type[BaseModel]) -> dict[str, str]:
    """Put a record, and those it is made of, into the document; return a reference to it."""
    known: dict[str, Any] = registered(app)
    if issubclass(record, BaseModel):
        template = _TEMPLATE.replace("{name}", "{model}")
        schema = record.model_json_schema(ref_template=template)
        known.update(schema.pop("$defs", {}))
        known[record.__name__] = schema
        return {"$ref": _TEMPLATE.format(name=record.__name__)}
    (found,), components = msgspec.json.schema_components([record], ref_template=_TEMPLATE)
    known.update(components)
    return {"$ref": found["$ref"]}


def content(app: FastAPI, record: type[msgspec.Struct] | type[BaseModel]) -> dict[str, Any]:
    """Return the `content` of a body in JSON that holds such a record."""
    return {"application/json": {"schema": reference(app, record)}}


def registered(app: FastAPI) -> dict[str, Any]:
    """Return all schemas that were put there, by name."""
    if not hasattr(app.state, "schemas"):
        app.state.schemas = {}
    found: dict[str, Any] = app.state.schemas
    return found
