"""The examples for LangChain and LlamaIndex run as they are."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


@pytest.mark.parametrize("scorer", ["encoder", "overlap"])
@pytest.mark.parametrize("name", ["rag_langchain.py", "rag_llama_index.py"])
def test_an_example_keeps_the_answer_and_drops_the_rest(name, scorer, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--scorer", scorer])
    monkeypatch.setattr(sys, "path", [*sys.path])  # an example adds its own folder
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    shown = capsys.readouterr().out
    assert "opened by Prince Albert on 2 May 1859" in shown
    assert "Drivers pay a toll" not in shown
    assert "Royal Albert Bridge: 85 ->" in shown
