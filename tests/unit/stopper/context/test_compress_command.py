"""``stopper compress`` at its seams: files in, text or JSON out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stopper.cli import build_app
from stopper.context.filters import make_filter
from stopper.errors import InputError

QUERY = "What is the capital of Australia?"
LINES = [
    {"title": "Canberra", "text": "It is a city. Canberra is the capital of Australia.", "id": 7},
    {"text": "Sydney \ud800 is large. The capital is elsewhere."},
]


def run(*words: str, input: str | None = None) -> Any:
    return CliRunner().invoke(
        build_app(), ["compress", "--query", QUERY, "--scorer", "overlap", *words], input=input
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "documents.jsonl"
    path.write_text("\n".join(map(json.dumps, LINES)) + "\n\n")
    return path


def test_it_prints_what_is_left_and_tells_what_it_did(file: Path) -> None:
    done = run(str(file))
    assert done.exit_code == 0
    assert done.stdout == "Canberra is the capital of Australia.\n\nThe capital is elsewhere.\n"
    assert "compressed: kept 2 of 4 sentences of 2 documents, 14 of 24 tokens" in done.stderr
    whole = run(str(file), "--threshold", "9")
    assert "Sydney ? is large." in whole.stdout


def test_json_has_places_and_scores(file: Path) -> None:
    found = json.loads(run(str(file), "--json").stdout)
    first, second = found["documents"]
    assert (first["id"], first["title"], second["id"]) == ("7", "Canberra", None)
    (kept,) = first["kept"]
    text = str(LINES[0]["text"])
    assert text[kept["start"] : kept["end"]] == first["text"]
    assert found["reason"] == "compressed"
    assert found["artifact"] is None
    whole = json.loads(run(str(file), "--json", "--threshold", "9").stdout)
    assert whole["documents"][1]["text"] == LINES[1]["text"]


def test_nothing_left_is_nothing_printed_and_a_floor_keeps_one() -> None:
    line = json.dumps({"title": "", "text": "Sheep eat grass. Cows too."})
    done = run("-", input=line)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "none_kept: kept 0 of 2" in done.stderr
    assert run("-", "--floor", "1", input=line).stdout == "Sheep eat grass.\n"
    assert "no_sentences" in run("-", input="").stderr


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "line 1: no JSON"),
        ('{"text": "a"}\n[1]', 'line 2: needs {"title"'),
        ('{"title": "a"}', "line 1: needs"),
        ('{"title": 1, "text": "a"}', "title: must be a string"),
        ("\ufffd".encode("utf-16").decode("latin-1"), "line 1: no JSON"),
    ],
    ids=lambda part: None,
)
def test_a_wrong_line_is_named(text: str, named: str) -> None:
    done = run("-", input=text)
    assert isinstance(done.exception, InputError)
    assert named in str(done.exception)


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    for path, named in ((tmp_path / "none", "No such file"), (tmp_path / "latin", "at byte 10")):
        (tmp_path / "latin").write_bytes(b'{"text": "\xff"}')
        refused = run(str(path)).exception
        assert isinstance(refused, InputError)
        assert named in str(refused)


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InputError, match="threshold or alpha, not both"):
        make_filter("overlap", threshold=1.0, alpha=0.1)
    for wrong in ({"alpha": 0.1}, {"artifact": Path("a")}):
        with pytest.raises(InputError, match="has no artifact and keeps no promise"):
            make_filter("overlap", **wrong)  # type: ignore[arg-type]
    made = make_filter("overlap")
    assert made.threshold() == 1.0
    assert made.threshold(2.0) == 2.0
    with pytest.raises(InputError, match="keeps no promise; give a threshold"):
        made.threshold(alpha=0.1)
    with pytest.raises(InputError, match="not both"):
        made.threshold(1.0, 0.1)
