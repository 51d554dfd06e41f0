"""`stopper simulate`, by the command line."""

from pathlib import Path

import pytest

from calibration.scores import load_scores
from calibration.simulate import SimulatorSettings, simulate
from stopper import cli


def run(*argv: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main([str(part) for part in argv])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_it_writes_what_the_simulator_draws(tmp_path: Path, capsys) -> None:
    out = tmp_path / "s.jsonl"
    dials = ["--rollouts", "2", "--auroc", ".9", "--signal", "agrees", "--no-cues", ".1"]
    assert (
        run("simulate", "--traces", "40", "--cues", "5", "--seed", "7", "--out", out, *dials) == 0
    )
    settings = SimulatorSettings(
        40, cues=5, seed=7, rollouts=2, auroc=0.9, signal="agrees", no_cues=0.1
    )
    assert list(load_scores(out).traces()) == list(simulate(settings).traces())
    assert "Wrote 40 traces of 20 prompts" in capsys.readouterr().out


def test_a_dial_out_of_range_is_one_line_and_exit_2(tmp_path: Path, capsys) -> None:
    assert run("simulate", "--auroc", "2", "--out", tmp_path / "s.jsonl") == 2
    error = capsys.readouterr().err
    assert (
        error == "stopper: error: simulator: auroc is 2.0; it must be strictly between 0.5 and 1.\n"
    )
    assert list(tmp_path.iterdir()) == []
