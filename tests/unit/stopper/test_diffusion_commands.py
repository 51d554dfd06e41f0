"""`stopper diffusion`: from recorded decodes to an artifact, its evaluation and its page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import makers
import pytest

from calibration.denoising_simulation import DenoisingSettings, simulate_denoising
from calibration.denoising_store import load_store
from calibration.halting_outcomes import HaltingEvaluator
from stopper import cli
from stopper.artifact import Artifact
from stopper.halting import PRESETS
from stopper.halting_policy import HaltingPolicy
from stopper.halting_reporting import page_of
from stopper.halting_rivals import ours, prophet_at

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def run(*argv: object) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main([str(word) for word in argv])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def diffusion(*argv: object) -> int:
    return run("diffusion", *argv)


def refused(capsys: Capture, *argv: object) -> str:
    capsys.readouterr()
    assert diffusion(*argv) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def store(folder: Path, n: int, seed: int) -> Path:
    made = simulate_denoising(DenoisingSettings(n, steps=8, seed=seed))
    model = makers.fingerprint().model_dump(mode="json")
    replace(made, settings={**made.settings, "model": model, "comparer": "auto"}).save(folder)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diffusion")
    for name, n, seed in (("select", 60, 1), ("calibrate", 120, 2), ("test", 100, 3)):
        store(folder / name, n, seed)
    argv = (folder / "calibrate", "--select", folder / "select", "--out", folder / "own")
    assert diffusion("calibrate", *argv, "--alpha", "0.1", "--json", folder / "own.json") == 0
    return folder


def test_calibrate_writes_an_artifact_and_its_figures(files: Path) -> None:
    policy = HaltingPolicy.from_artifact(Artifact.load(files / "own"))
    figures = json.loads((files / "own.json").read_bytes())
    assert figures["rule"] == policy.rule.to_json()
    assert figures["level"] == float(policy.level())
    assert (figures["alpha"], figures["n_units"], figures["method"]) == (0.1, 120, "ltt")


def test_one_store_is_shared_out_by_group(files: Path, tmp_path: Path, capsys: Capture) -> None:
    assert diffusion("calibrate", files / "calibrate", "--out", tmp_path, "--alpha", "0.1") == 0
    assert "the shape is chosen on" in capsys.readouterr().err
    splits = Artifact.load(tmp_path).splits
    assert splits["select"].size + splits["calibrate"].size == 120


def test_evaluate_prints_and_writes_every_row(files: Path, tmp_path: Path, capsys: Capture) -> None:
    argv = ("--traces", files / "test", "--alpha", "0.1", "--alpha", "0.2")
    assert diffusion("evaluate", files / "own", *argv, "--json", tmp_path / "e.json") == 0
    said = capsys.readouterr().out
    figures = json.loads((tmp_path / "e.json").read_bytes())
    rules = [row["rule"] for row in figures["rows"]]
    assert set(PRESETS) < set(rules)
    assert all(name in said for name in rules)
    policy = HaltingPolicy.from_artifact(Artifact.load(files / "own"))
    evaluator = HaltingEvaluator(load_store(files / "test"))
    assert figures["rows"][1] == ours(evaluator, policy, 0.1).to_json()
    assert figures["alphas"][1]["disagreements"] == ours(evaluator, policy, 0.2).disagreements
    promised = [row["rule"] for row in figures["rows"] if row["guarantee"] == "risk"]
    assert promised == ["stopper, alpha 0.1"]


def test_levels_are_found_again_on_halves(files: Path, tmp_path: Path, capsys: Capture) -> None:
    argv = ("evaluate", files / "own", "--traces", files / "test", "--alpha", "0.1")
    assert diffusion(*argv, "--repeats", "20", "--json", tmp_path / "e.json") == 0
    assert "20 levels for alpha 0.1 (ltt)" in capsys.readouterr().out
    (one,) = json.loads((tmp_path / "e.json").read_bytes())["repeats"]
    assert (one["n_calibrate"], one["n_test"], one["count"]) == (50, 50, 20)
    assert 0 <= one["mean_risk"] <= 0.1
    assert one["clearly_above"] <= one["above"] < 20
    assert one["speedup"] > 1
    said = refused(
        capsys,
        "evaluate",
        files / "own",
        "--traces",
        files / "test",
        "--repeats",
        "3",
        "--alpha",
        "0.03",
    )
    assert "too few" in said


def test_stretched_prophet_agrees_as_often_at_more_passes(files: Path) -> None:
    evaluator = HaltingEvaluator(load_store(files / "test"))
    policy = HaltingPolicy.from_artifact(Artifact.load(files / "own"))
    own = ours(evaluator, policy, 0.1)
    rival = prophet_at(evaluator, own.agreement)
    assert rival.agreement >= own.agreement
    assert prophet_at(evaluator, 1.1).steps == evaluator.full.steps


def test_a_page_is_written_with_the_same_numbers(
    files: Path, tmp_path: Path, capsys: Capture
) -> None:
    argv = ("--traces", files / "test", "--out", tmp_path)
    assert diffusion("report", files / "own", *argv) == 0
    html = (tmp_path / "report.html").read_text("utf-8")
    policy = HaltingPolicy.from_artifact(Artifact.load(files / "own"))
    row = ours(HaltingEvaluator(load_store(files / "test")), policy, 0.1)
    said = f"{row.disagreements:.0f} of 100 test requests came out with another answer"
    assert said in html
    assert said in capsys.readouterr().out
    assert "at most 0.1 are halted early" in html
    assert "masked" in html or "span" in html
    assert "no guarantee" in html
    assert "thinking" not in html
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"report.html", *(f"{n}.png" for n in
                     ("risk", "tradeoff", "place", "lengths", "groups"))}  # fmt: skip


def test_the_page_gives_the_promise_of_the_alpha_asked_for(files: Path) -> None:
    evaluator = HaltingEvaluator(load_store(files / "test"))
    own = files / "own"
    page = page_of(Artifact.load(own), evaluator, [0.2, 0.1], own, files / "test", ["stopper"])
    assert "at most 0.2 are halted early" in page.promise.formal
    assert page.verdict.alpha == 0.2
    assert any("at most 20 are halted badly" in said for said in page.promise.paragraphs)


def test_inspect_shows_the_shape_the_sampler_and_what_it_was_chosen_from(
    files: Path, capsys: Capture
) -> None:
    assert run("inspect", files / "own") == 0
    said = capsys.readouterr().out
    for part in ("8 steps a block of 8", "progress over the block", "shapes at alpha 0.1",
                 "120 decodes, 960 steps", "at most 0.1 are halted early"):  # fmt: skip
        assert part in said
    assert run("inspect", files / "own", "--json") == 0
    fields = json.loads(capsys.readouterr().out)
    assert fields["halting"]["sampler"]["canvas_length"] == 8
    assert "0.1" in fields["thresholds"]


def test_presets_are_marked_as_without_a_guarantee(capsys: Capture) -> None:
    assert diffusion("presets") == 0
    said = capsys.readouterr().out
    assert "no guarantee" in said
    assert "sched-exp-16-aggressive" in said
    assert diffusion("presets", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["guarantee"] is None
    assert listed["presets"]["prophet"]["kind"] == "thirds"


def test_mapie_gives_an_artifact_of_one_alpha(files: Path, tmp_path: Path, capsys: Capture) -> None:
    argv = (files / "calibrate", "--select", files / "select", "--out", tmp_path / "m")
    assert diffusion("calibrate", *argv, "--alpha", "0.2", "--method", "mapie") == 0
    assert "split_fixed_sequence" in capsys.readouterr().out
    argv = ("evaluate", tmp_path / "m", "--traces", files / "test")
    assert diffusion(*argv) == 0
    assert "for alpha 0.2 alone" in refused(capsys, *argv, "--alpha", "0.1")


def test_decodes_that_made_the_artifact_are_refused(files: Path, capsys: Capture) -> None:
    for name in ("select", "calibrate"):
        said = refused(capsys, "evaluate", files / "own", "--traces", files / name)
        assert f"already used in the artifact's '{name}' split" in said


def test_what_is_missing_or_wrong_is_said_in_a_line(
    files: Path, tmp_path: Path, capsys: Capture
) -> None:
    own, test = files / "own", files / "test"
    calibrate = ("calibrate", files / "calibrate", "--select", files / "select")
    assert "more" in refused(capsys, *calibrate, "--out", tmp_path / "x", "--alpha", "0.001")
    assert not (tmp_path / "x").exists()
    assert "alpha is 0" in refused(capsys, *calibrate, "--out", tmp_path / "x", "--alpha", "0")
    assert "exists and is not an artifact" in refused(capsys, *calibrate, "--out", files)
    assert "no recorded decodes" in refused(capsys, "evaluate", own, "--traces", tmp_path)
    argv = ("evaluate", own, "--traces", test, "--alpha", "0.001")
    assert "more" in refused(capsys, *argv)
    (tmp_path / "file").write_text("x")
    argv = ("report", own, "--traces", test, "--out", tmp_path / "file")
    assert "is a file" in refused(capsys, *argv)
    makers.artifact().save(tmp_path / "reasoner")
    assert "no halting rule" in refused(capsys, "evaluate", tmp_path / "reasoner", "--traces", test)


def test_every_command_of_the_group_is_there(capsys: Capture) -> None:
    assert diffusion("--help") == 0
    said = capsys.readouterr().out
    for name in ("calibrate", "collect", "compare", "evaluate", "presets", "report"):
        assert name in said


def test_commands_for_traces_name_the_right_one(
    files: Path, tmp_path: Path, capsys: Capture
) -> None:
    traces = makers.store(tmp_path / "traces", makers.records(3))
    capsys.readouterr()
    assert run("replay", files / "own", traces) == 2
    assert "use `stopper diffusion evaluate`" in capsys.readouterr().err
