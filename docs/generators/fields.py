"""Fields of pydantic models as rows: type with bounds, default, meaning."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from docs.generators.docstrings import attributes


def kind(field: FieldInfo) -> str:
    """Return what a field takes, such as "number > 0" or "json | text"."""
    said = " or ".join(dict.fromkeys(_kinds(field.annotation)))
    return f"{said} {_bounds(field)}".strip()


def model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model inside an annotation such as `Group | None`; None where there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(model_in, typing.get_args(annotation))), None)


def meaning(model: type[BaseModel], name: str) -> str:
    """Return what the model's docstring says of a field.

    Raises
    ------
    KeyError
        If it says nothing: then the reference would be silent as well.

    """
    told = attributes(model.__doc__)
    if name not in told:
        raise KeyError(f"{model.__module__}.{model.__qualname__}: describe {name!r} (Attributes)")
    return told[name]


def is_list(annotation: Any) -> bool:
    """Tell whether a field holds several values."""
    return typing.get_origin(annotation) in (list, tuple)


_NAMES = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path"}


def _kinds(annotation: Any) -> Iterator[str]:
    origin = typing.get_origin(annotation)
    if annotation in (None, type(None)):
        return
    if origin is Literal:
        yield from map(str, typing.get_args(annotation))
    elif origin is typing.Annotated:
        yield from _kinds(typing.get_args(annotation)[0])
    elif origin in (list, tuple):
        inner = [part for part in typing.get_args(annotation) if part is not Ellipsis]
        yield f"list of {'/'.join(name for part in inner for name in _kinds(part))}"
    elif origin in (types.UnionType, typing.Union):
        for part in typing.get_args(annotation):
            yield from _kinds(part)
    elif origin is dict or annotation is dict or model_in(annotation) is not None:
        yield "object"
    else:
        yield _NAMES[annotation]


def _bounds(field: FieldInfo) -> str:
    found = [*field.metadata, *_inner_metadata(field.annotation)]
    said = []
    for mark in found:
        if isinstance(mark, annotated_types.Gt):
            said.append(f"> {mark.gt}")
        elif isinstance(mark, annotated_types.Ge):
            said.append(f">= {mark.ge}")
        elif isinstance(mark, annotated_types.Lt):
            said.append(f"< {mark.lt}")
        elif isinstance(mark, annotated_types.Le):
            said.append(f"<= {mark.le}")
        elif isinstance(mark, FieldInfo):
            said.append(_bounds(mark))
    return ", ".join(filter(None, said))


def _inner_metadata(annotation: Any) -> Iterator[Any]:
    if typing.get_origin(annotation) is typing.Annotated:
        yield from annotation.__metadata__
    elif typing.get_origin(annotation) in (types.UnionType, typing.Union):
        for part in typing.get_args(annotation):
            yield from _inner_metadata(part)
