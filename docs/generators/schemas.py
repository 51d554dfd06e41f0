"""JSON schemas as Markdown: what a value may be, and an object's fields as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from docs.generators.docstrings import attributes, text_of
from docs.generators.markdown import code, linked, plain, pretty, table, value

Schema = dict[str, Any]

_BOUNDS = (
    ("exclusiveMinimum", "> {}"), ("minimum", ">= {}"),
    ("exclusiveMaximum", "< {}"), ("maximum", "<= {}"),
    ("minLength", "at least {} characters"), ("maxLength", "at most {} characters"),
    ("minItems", "at least {}"), ("maxItems", "at most {}"),
)  # fmt: skip


def kind(schema: Schema) -> str:
    """Return what a value may be; objects of the document are links to their headings."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(kind, schema["anyOf"])))
    if "enum" in schema:
        return ", ".join(code(json.dumps(choice)) for choice in schema["enum"])
    names = schema.get("type", "any")
    said = " or ".join(
        _named(name, schema) for name in ([names] if isinstance(names, str) else names)
    )
    bounds = [text.format(f"{schema[key]:,}") for key, text in _BOUNDS if key in schema]
    if "pattern" in schema:
        bounds.append(f"matching {code(schema['pattern'])}")
    return ", ".join((said, *map(plain, bounds)))


def _named(name: str, schema: Schema) -> str:
    if name == "array":
        return f"list of {kind(schema.get('items', {}))}"
    inner = schema.get("additionalProperties")
    if name == "object" and isinstance(inner, dict):
        return f"object of {kind(inner)}"
    if name == "string" and schema.get("format") in ("date-time", "binary"):
        return {"date-time": "string (ISO 8601)", "binary": "bytes"}[schema["format"]]
    return name


def fields(schema: Schema, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Give a row for each field, and for those of objects that have no heading of their own."""
    told = attributes(schema.get("description"))
    for name, inner in schema.get("properties", {}).items():
        default = value(inner["default"]) if inner.get("default") is not None else ""
        if name in schema.get("required", ()):
            default = "**required**"
        meaning = text_of(inner.get("description")) or told.get(name, "")
        yield code(prefix + name), kind(inner), default, linked(plain(meaning))
        yield from fields(inner, f"{prefix}{name}.")
        if "items" in inner:
            yield from fields(inner["items"], f"{prefix}{name}[].")


def object_of(name: str, schema: Schema) -> Iterator[str]:
    """Give the blocks of one object of the document."""
    yield f"### {name}"
    text = text_of(schema.get("description"))
    if text:
        yield linked(plain(text))
    rows = list(fields(schema))
    if rows:
        yield table(("field", "value", "default", ""), rows)
    if "example" in schema:
        yield pretty(schema["example"])
