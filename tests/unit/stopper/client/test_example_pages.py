"""The examples on the pages of the client and the scripted engine run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import stopper.client
from stopper.client import StopperClient
from stopper.scripted import Script, Trace, serving
from stopper.scripted.faults import Fault
from stopper.scripted.script import Piece
from stopper.service.app import create_app
from stopper.service.settings import ArtifactSource, ServeSettings

ROOT = Path(__file__).resolve().parents[4]
ARTIFACT = ROOT / "examples" / "tiny_reasoner" / "artifact"
BLOCKS = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def examples(page: str) -> list[str]:
    return BLOCKS.findall((ROOT / "docs" / page).read_text())


def test_the_examples_of_the_client_run(capsys: pytest.CaptureFixture[str]) -> None:
    found = examples("client.md")
    assert len(found) == 2
    tiny = ArtifactSource(folder=ARTIFACT, model="tiny")
    with serving(create_app(ServeSettings.read(artifacts=[tiny]))) as url:
        for code in found:
            exec(code.replace("http://127.0.0.1:8080", url), {"__name__": "example"})
    said = capsys.readouterr().out
    assert "10 score_below_threshold None" in said
    assert "model 'huge' is not served here; served are: tiny" in said


def test_the_example_of_the_scripted_engine_runs() -> None:
    (code,) = examples("scripted.md")
    exec(code, {"__name__": "example"})


def test_the_page_of_the_client_names_every_method_and_error() -> None:
    text = (ROOT / "docs" / "client.md").read_text()
    methods = [name for name in vars(StopperClient) if not name.startswith("_")]
    assert [name for name in methods if f"`{name}(" not in text] == []
    errors = [name for name in stopper.client.__all__ if name.endswith("Error")]
    assert [name for name in errors if f"`{name}`" not in text] == []


def test_the_page_of_the_scripted_engine_names_every_field() -> None:
    text = (ROOT / "docs" / "scripted.md").read_text()
    named = [name for kind in (Script, Trace, Piece, Fault) for name in kind.model_fields]
    assert [name for name in named if f"`{name}`" not in text] == []
    kinds = Fault.model_fields["kind"].annotation.__args__  # type: ignore[union-attr]
    assert [name for name in kinds if f"| `{name}` |" not in text] == []
