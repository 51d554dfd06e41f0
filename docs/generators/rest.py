"""The sidecar's REST interface, from its OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi.routing import APIRoute

from docs.generators.docstrings import text_of
from docs.generators.markdown import code, linked, plain, pretty, table
from docs.generators.schemas import Schema, fields, kind, object_of
from stopper.service.app import create_app
from stopper.service.auth import Require
from stopper.service.problems import MEDIA_TYPE, TITLES
from stopper.service.settings import ServeSettings, Upstream

DOCUMENT = Path(__file__).resolve().parents[1] / "openapi.json"
JSON = "application/json"
TAGS = {"openai": "OpenAI-compatible front"}


def blocks() -> Iterator[str]:
    """Give the page's blocks."""
    document = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    needed = scopes()
    yield "# REST interface"
    yield (
        "Every route of `stopper serve`, from its OpenAPI document: "
        "[openapi.json](../openapi.json), which a running sidecar has at `/openapi.json`. "
        "What it all means is told in [the sidecar](../sidecar.md)."
    )
    yield table(
        ("route", "key", ""),
        (
            (f"[{route}](#{_slug(route)})", code(needed.get(route, "")) or "none", one["summary"])
            for route, one in _operations(document)
        ),
    )
    yield "## Errors"
    yield (
        f"Every error is a problem document (`{MEDIA_TYPE}`, RFC 9457), see [Problem](#problem). "
        "Its `type` is `urn:stopper:problem:` and one of these names. Those of the "
        "OpenAI-compatible front have besides a member `error` in OpenAI's form."
    )
    yield table(
        ("type", "status", ""),
        ((code(name), str(status), text) for name, (status, text) in TITLES.items()),
    )
    for tag in document["tags"]:
        yield f"## {TAGS.get(tag['name'], tag['name'].capitalize())}"
        yield tag["description"]
        for route, operation in _operations(document):
            if tag["name"] in operation["tags"]:
                yield from _operation(route, operation, needed.get(route, ""))
    yield "## Objects"
    for name, schema in document["components"]["schemas"].items():
        yield from object_of(name, schema)


def scopes() -> dict[str, str]:
    """Return the scope of the key that each route needs, such as "GET /v1/status": "read"."""
    defaults = {name: field.default for name, field in ServeSettings.model_fields.items()}
    upstreams = (Upstream(url="http://127.0.0.1:8000"),)  # never asked
    app = create_app(ServeSettings.model_construct(**{**defaults, "upstreams": upstreams}))
    found = {}
    for route in app.routes:
        if isinstance(route, APIRoute):
            for scope in _required(route.dependant):
                found.update({f"{method} {route.path}": scope for method in route.methods})
    return found


def _required(dependant: Any) -> Iterator[str]:
    if isinstance(dependant.call, Require):
        yield dependant.call.scope
    for inner in dependant.dependencies:
        yield from _required(inner)


def _operations(document: Schema) -> Iterator[tuple[str, Schema]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def _slug(route: str) -> str:
    kept = [letter for letter in route.lower() if letter.isalnum() or letter in " -_"]
    return "".join(kept).replace(" ", "-")


def _operation(route: str, operation: Schema, scope: str) -> Iterator[str]:
    yield f"### {route}"
    yield f"{operation['summary']}. {f'Key: {code(scope)}.' if scope else 'Needs no key.'}"
    text = text_of(operation.get("description"))
    if text:
        yield linked(plain(text))
    if "parameters" in operation:
        yield table(
            ("parameter", "in", "value", ""),
            (
                (code(p["name"]), p["in"], kind(p["schema"]), plain(p.get("description", "")))
                for p in operation["parameters"]
            ),
        )
    if "requestBody" in operation:
        yield from _body("Request", operation["requestBody"]["content"])
    errors = []
    for status, response in operation["responses"].items():
        if status.isdigit() and int(status) >= 400:
            errors.append(status)
            continue
        said = f"**{status if status != 'default' else 'Any other'}**: {response['description']}"
        yield linked(plain(said))
        yield from _body("Body", response.get("content", {}))
    yield f"Errors: {', '.join(errors)}."


def _body(title: str, contents: Schema) -> Iterator[str]:
    for media, content in contents.items():
        schema = content.get("schema", {})
        said = kind(schema) if schema.keys() & {"$ref", "anyOf"} else ""
        if not said:
            said = " ".join(text_of(schema.get("description")).split())
        yield f"{title}, {code(media)}: {plain(said)}".rstrip(": ")
        if media == JSON and "properties" in schema:
            yield table(("field", "value", "default", ""), fields(schema))
        if media == JSON:
            yield from _examples(content)


def _examples(content: Schema) -> Iterator[str]:
    if "example" in content:
        yield pretty(content["example"])
    for example in content.get("examples", {}).values():
        if "summary" in example:
            yield f"{example['summary']}:"
        yield pretty(example["value"])
