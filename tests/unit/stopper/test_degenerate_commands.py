"""`stopper simulate`, `calibrate` and `evaluate` on degenerate traces: what a person reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.risk import minimum_units
from calibration.scores import write_scores
from calibration.simulate import SimulatorSettings, simulate
from calibration.table import CueTable
from stopper import cli
from stopper.artifact import Artifact

Capture = pytest.CaptureFixture[str]
CAL, TEST = (simulate(SimulatorSettings(60, seed=seed)) for seed in (1, 2))


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def run(*argv: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main([str(part) for part in argv])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def refused(capsys: Capture, *argv: str | Path) -> str:
    capsys.readouterr()
    assert run(*argv) == 2
    (line,) = [
        text for text in capsys.readouterr().err.splitlines() if text.startswith("stopper: error: ")
    ]
    return line


def flatten(table: CueTable) -> CueTable:
    return table.with_scores(np.full(table.n_cues, 1.5, dtype=np.float32))


def labelled(table: CueTable, agrees: int) -> CueTable:
    """The same traces, all of whose cues agree with the full answer, or none."""
    return replace(table, agrees=np.full(table.n_cues, agrees, dtype=np.int8))


def calibrate(folder: Path, table: CueTable, *options: str) -> tuple[int, Path]:
    write_scores(folder / "cal.jsonl", table)
    argv = ["--scores", folder / "cal.jsonl", "--out", folder / "a", "--alpha", "0.1", *options]
    return run("calibrate", *argv), folder / "a"


@pytest.mark.parametrize("method", ["ltt", "crc"])
def test_a_constant_score_is_explained_and_stops_nothing(
    tmp_path: Path, capsys: Capture, method: str
) -> None:
    code, artifact = calibrate(tmp_path, flatten(CAL), "--method", method, "--loss", "wrong")
    assert code == 0
    said = capsys.readouterr().err
    assert f"all {CAL.n_cues} cues have the same score, 1.5: it cannot tell good" in said
    assert "no calibration cue scores above the threshold: none of these would stop" in said
    record = Artifact.load(artifact).manifest.calibration
    assert record is not None and record.threshold == 1.5
    report = tmp_path / "r.json"
    write_scores(tmp_path / "test.jsonl", flatten(TEST))
    argv = ["--scores", tmp_path / "test.jsonl", "--json", report]
    assert run("evaluate", artifact, *argv) == 0
    found = json.loads(report.read_text())
    assert found["stopped"]["tokens"] == found["full"]["tokens"] > found["oracle_tokens"]
    assert found["bad_stop_share"] == 0


def test_ties_everywhere_are_told(tmp_path: Path, capsys: Capture) -> None:
    rough = CAL.with_scores(np.sign(CAL.scores) * np.float32(2))
    assert calibrate(tmp_path, rough, "--loss", "wrong")[0] == 0
    assert "equal scores: 0 of the" in capsys.readouterr().err


@pytest.mark.parametrize(("agrees", "kind"), [(0, "bad"), (1, "good")])
def test_one_class_only_is_refused_or_confirmed(
    tmp_path: Path, capsys: Capture, agrees: int, kind: str
) -> None:
    write_scores(tmp_path / "cal.jsonl", labelled(CAL, agrees))
    argv = ["--scores", tmp_path / "cal.jsonl", "--out", tmp_path / "a", "--alpha", "0.1"]
    line = refused(capsys, "calibrate", *argv)
    assert f"cal.jsonl: all {CAL.n_cues} cues are {kind} under the loss 'disagree'" in line
    assert "--allow-one-class" in line
    assert not (tmp_path / "a").exists()
    assert run("calibrate", *argv, "--allow-one-class") == 0
    assert f"all {CAL.n_cues} cues are {kind}" in capsys.readouterr().err
    write_scores(tmp_path / "test.jsonl", labelled(TEST, agrees))
    assert run("evaluate", tmp_path / "a", "--scores", tmp_path / "test.jsonl") == 0
    assert "all test cues are of one class" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["ltt", "crc"])
def test_one_trace_below_the_minimum_is_refused_with_a_remedy(
    tmp_path: Path, capsys: Capture, method: str
) -> None:
    needed = minimum_units(method, 0.1)
    write_scores(tmp_path / "few.jsonl", CAL.take(range(needed - 1)))
    argv = ["--scores", tmp_path / "few.jsonl", "--out", tmp_path / "a", "--alpha", "0.1"]
    line = refused(capsys, "calibrate", *argv, "--method", method, "--loss", "wrong")
    assert f"it needs at least {needed}, so 1 more" in line
    assert "or settle for alpha >= 0.1" in line
    assert (
        calibrate(tmp_path, CAL.take(range(needed)), "--method", method, "--loss", "wrong")[0] == 0
    )


def test_an_alpha_that_the_traces_cannot_carry_is_refused_by_evaluate(
    tmp_path: Path, capsys: Capture
) -> None:
    needed = minimum_units("ltt", 0.1)
    code, artifact = calibrate(tmp_path, CAL.take(range(needed)), "--loss", "wrong")
    assert code == 0
    argv = ["--scores", tmp_path / "cal.jsonl", "--alpha", "0.09"]
    assert "0.09" in refused(capsys, "evaluate", artifact, *argv)


def test_simulated_extremes_are_refused_or_written(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "s.jsonl"
    for options, words in (
        (["--cues", "0.5"], "cues"),
        (["--auroc", "0.5"], "auroc"),
        (["--auroc", "1"], "auroc"),
        (["--no-cues", "1.5"], "no_cues"),
        (["--trace-effect", "0.6", "--prompt-effect", "0.5"], "effect"),
    ):
        assert words in refused(capsys, "simulate", "--out", out, *options)
        assert not out.exists()
    assert run("simulate", "--out", out, "--traces", "30", "--no-cues", "0.999999") == 0
    line = refused(capsys, "calibrate", "--scores", out, "--out", tmp_path / "a", "--alpha", "0.1")
    assert "none of the 30 traces has a cue" in line
