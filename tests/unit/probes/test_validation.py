from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from probes.validation import Count, Finite, Flag, Positive, Real, Record, Sha256, Text, read_json


class Every(Record):
    count: Count = 0
    positive: Positive = 1
    text: Text = ""
    flag: Flag = False
    real: Real = 0.0
    finite: Finite = 0.0
    sha256: Sha256 = "0" * 64


def test_infinities_survive_json() -> None:
    text = Every(real=-math.inf).model_dump_json()
    assert '"-Infinity"' in text
    assert Every.model_validate(read_json(text)).real == -math.inf


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", -1),
        ("count", "1"),
        ("count", 1.0),
        ("count", True),
        ("positive", 0),
        ("text", 3),
        ("flag", 1),
        ("flag", "yes"),
        ("real", math.nan),
        ("real", "NaN"),
        ("real", "1.0"),
        ("finite", math.inf),
        ("finite", "Infinity"),
        ("sha256", "A" * 64),
        ("sha256", "0" * 63),
        ("unknown", 1),
    ],
)
def test_nothing_is_coerced(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        Every.model_validate({field: value})


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", '{"a": Infinity}', b"\xff\xfe\xff", "[" * 100_000, '{"a": 1} x']
)
def test_read_json_refuses(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        read_json(text)
