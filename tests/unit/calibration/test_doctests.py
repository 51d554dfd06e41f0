import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["answers", "equality", "evaluate", "extraction", "risk"])
def test_examples_in_docstrings_are_true(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"calibration.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
