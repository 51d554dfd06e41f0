"""`stopper report`: from an artifact and traces to a folder, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from calibration.report import Evaluator
from calibration.scores import load_scores, write_scores
from calibration.simulate import SimulatorSettings, simulate
from stopper import cli
from stopper.artifact import MANIFEST, Artifact
from stopper.calibrating import rule_of

Capture = pytest.CaptureFixture[str]


def run(*argv: object) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main([str(word) for word in argv])
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_scores(folder / "cal.jsonl", simulate(SimulatorSettings(200, seed=1)))
    write_scores(folder / "test.jsonl", simulate(SimulatorSettings(150, seed=2)))
    argv = ["--scores", folder / "cal.jsonl", "--loss", "wrong", "--alpha", "0.1"]
    assert run("calibrate", *argv, "--out", folder / "own") == 0
    return folder


def test_a_page_is_written_whose_numbers_are_those_of_the_artifact(
    files: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    argv = ["--scores", files / "test.jsonl", "--alpha", "0.2", "--alpha", "0.1"]
    assert run("report", files / "own", *argv, "--out", out) == 0
    html = (out / "report.html").read_text(encoding="utf-8")
    artifact = Artifact.load(files / "own")
    row = Evaluator(load_scores(files / "test.jsonl"), rule_of(artifact)).at(0.2).stopped
    said = f"{row.bad_stops:.0f} of 150 test requests were stopped badly"
    assert said in html and said in capsys.readouterr().out
    assert "at most 0.2 are stopped early" in html  # the promise at the alpha asked for
    fields = json.loads((files / "own" / MANIFEST).read_bytes())
    assert fields["digest"] in html
    assert all(sha in html for sha in fields["files"].values())
    assert f"stopper report {files / 'own'} --out {out} --scores" in html
    assert {file.stem for file in out.glob("*.png")} >= {"risk", "tradeoff", "cues", "scores"}


def refused(capsys: Capture, *argv: object) -> str:
    assert run("report", *argv) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("stopper: error: ")
    return lines[0]


def test_bad_input_is_refused_before_anything_is_written(
    files: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    own, test = files / "own", files / "test.jsonl"
    assert "give either --scores" in refused(capsys, own, "--out", out)
    both = ["--scores", test, "--traces", files]
    assert "not both" in refused(capsys, own, "--out", out, *both)
    few = refused(capsys, own, "--scores", test, "--alpha", "0.001", "--out", out)
    assert "too few" in few and "more" in few
    seen = refused(capsys, own, "--scores", files / "cal.jsonl", "--out", out)
    assert "already used in the artifact's 'calibrate' split" in seen
    rows = ["--rules", files / "none.json"]
    assert "cannot be read" in refused(capsys, own, "--scores", test, *rows, "--out", out)
    assert "no probe" in refused(capsys, own, "--traces", files, "--out", out)
    assert not out.exists()
    assert "is a file" in refused(capsys, own, "--scores", test, "--out", test)
