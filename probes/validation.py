"""Strict parsing of the JSON that stopper reads, with errors a person can act on."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from probes.errors import InputError


class Record(BaseModel):
    """Base of everything stopper writes as JSON: immutable, no unknown fields, no coercion.

    Infinities are written as the strings "Infinity" and "-Infinity", which standard JSON allows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


def _real(value: object) -> object:
    named = {"Infinity": math.inf, "-Infinity": -math.inf}
    if isinstance(value, str) and value in named:
        return named[value]
    if isinstance(value, float) and math.isnan(value):
        raise ValueError("must not be NaN")
    return value


Count = Annotated[int, Field(strict=True, ge=0)]
Positive = Annotated[int, Field(strict=True, ge=1)]
Text = Annotated[str, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Real = Annotated[float, BeforeValidator(_real), Field(strict=True)]
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Sha256 = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{64}$")]

Model = TypeVar("Model", bound=BaseModel)


def explain(error: ValidationError) -> str:
    """Return a validation error as one line: ``field: what is wrong; field: ...``."""
    parts = []
    for item in error.errors(include_url=False, include_input=False):
        where = ".".join(str(step) for step in item["loc"]) or "the whole"
        what = item["msg"].removeprefix("Value error, ")
        parts.append(f"{where}: {what[:1].lower()}{what[1:]}")
    return "; ".join(parts)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not standard JSON")


def read_json(data: bytes | str) -> Any:
    """Parse standard JSON; NaN and Infinity literals are refused.

    Raises
    ------
    ValueError
        If ``data`` is not UTF-8, not JSON, or nests too deeply.

    """
    try:
        return json.loads(data, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse(
    kind: type[Model],
    data: object,
    source: str,
    remedy: str,
    *,
    error: type[InputError] = InputError,
) -> Model:
    """Validate ``data`` as ``kind``.

    Raises
    ------
    InputError
        Or the given ``error``; the message names ``source``, each wrong field and the ``remedy``.

    """
    try:
        return kind.model_validate(data)
    except ValidationError as problem:
        raise error(f"{source}: {explain(problem)}. {remedy}") from None
