"""`stopper compare`, and rules from `stopper calibrate` to `stopper evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import makers
import numpy as np
import pytest

from calibration.rules import RULES, Terms, make_rule
from calibration.scores import write_scores
from calibration.simulate import SimulatorSettings, simulate
from calibration.traces import TraceDataset
from stopper import cli
from stopper.artifact import Artifact
from stopper.errors import ArtifactError
from stopper.policy import StopPolicy

Capture = pytest.CaptureFixture[str]

CAL = simulate(SimulatorSettings(600, looks=True, seed=1))
TEST = simulate(SimulatorSettings(600, looks=True, seed=2))
OPTIONS = {
    "hopeless": ["--hopeless-share", "0.7", "--hopeless-after", "200"],
    "bonferroni": ["--bonferroni-cues", "4"],
    "budget": ["--budget", "500", "--longest", "5000"],
    "second-look": ["--look-delta", "2", "--look-signal", "repeats"],
}
MADE = {
    "hopeless": {"share": 0.7, "after": 200},
    "bonferroni": {"cues": 4},
    "budget": {"tokens": 500.0, "longest": 5000.0},
    "second-look": {"delta": 2.0, "signal": "repeats"},
}


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scores")
    write_scores(folder / "cal.jsonl", CAL)
    write_scores(folder / "test.jsonl", TEST)
    return folder


def run(*argv: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main([str(part) for part in argv])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def refused(capsys: Capture, *argv: str | Path) -> str:
    capsys.readouterr()
    assert run(*argv) == 2
    shown = capsys.readouterr().err
    (line,) = [text for text in shown.splitlines() if text.startswith("stopper: error: ")]
    return line


# Calibrate and evaluate.


@pytest.mark.parametrize("name", RULES)
def test_an_artifact_keeps_its_rule_and_evaluate_replays_it(
    name: str, files: Path, tmp_path: Path, capsys: Capture
) -> None:
    out, report = tmp_path / "a", tmp_path / "r.json"
    argv = ["--scores", files / "cal.jsonl", "--loss", "wrong", "--alpha", "0.1", "--out", out]
    assert run("calibrate", *argv, "--rule", name, *OPTIONS.get(name, [])) == 0
    fitted = make_rule(name, MADE.get(name)).fit(CAL, Terms("wrong", 0.1))
    record = Artifact.load(out).manifest.calibration
    assert record is not None
    assert record.rule == name
    assert record.promise == fitted.promise
    if name != "level":
        assert record.parameters == fitted.parameters
    assert run("evaluate", out, "--scores", files / "test.jsonl", "--json", report) == 0
    found, stops = json.loads(report.read_text()), fitted.stops(TEST)
    tokens = np.where(stops < 0, TEST.tokens, TEST.positions[stops])
    assert found["stopped"]["tokens"] == pytest.approx(tokens.mean())
    assert found["extra_tokens"] == pytest.approx(fitted.extra_tokens(TEST, stops).mean())
    assert (found["rule"], found["guarantee"]) == (
        name, "none" if name == "lynx" else fitted.guarantee
    )  # fmt: skip
    shown = capsys.readouterr()
    assert ("tokens a trace to decide" in shown.err) == (name == "second-look")


@pytest.mark.parametrize("name", [name for name in RULES if name not in ("level", "lynx")])
def test_the_engine_serves_no_other_rule_than_level(name: str, files: Path, tmp_path: Path) -> None:
    argv = ["--scores", files / "cal.jsonl", "--loss", "wrong", "--alpha", "0.1"]
    assert (
        run("calibrate", *argv, "--out", tmp_path / "a", "--rule", name, *OPTIONS.get(name, []))
        == 0
    )
    with pytest.raises(ArtifactError, match=f"the rule '{name}', .* Calibrate with `--rule level`"):
        StopPolicy.from_artifact(Artifact.load(tmp_path / "a"))


def test_an_artifact_from_before_there_were_rules_is_of_level() -> None:
    artifact = makers.artifact()
    record = artifact.manifest.calibration
    assert record is not None and (record.rule, record.parameters) == ("level", {})
    assert StopPolicy.from_artifact(artifact).threshold(0.1) == np.float32(record.threshold)


def test_an_artifact_whose_parameters_are_not_its_rules_is_refused(tmp_path: Path) -> None:
    worst = makers.worst_scores()
    for changes, message in (
        ({"rule": "levle"}, "rule 'levle' is unknown; choose one of"),
        ({"rule": "timer"}, "'threshold' is missing"),
        ({"rule": "timer", "parameters": {"threshold": -7.0}}, "say threshold -7.0, the record"),
    ):
        with pytest.raises(ArtifactError, match=message):
            Artifact(
                makers.artifact().manifest.model_copy(
                    update={"calibration": makers.calibration(worst, **changes)}
                ),
                probe=makers.probe(),
                cues=makers.automaton(),
                worst_scores=worst,
            )


def test_wrong_rules_and_options_are_one_line(files: Path, tmp_path: Path, capsys: Capture) -> None:
    argv = ["calibrate", "--scores", files / "cal.jsonl", "--out", tmp_path / "a"]
    assert "choose one of level, " in refused(capsys, *argv, "--rule", "best")
    line = refused(capsys, *argv, "--rule", "timer", "--hopeless-share", "0.5")
    assert "--hopeless-share belongs to the rule 'hopeless'" in line
    assert "needs the option longest" in refused(capsys, *argv, "--rule", "budget", "--budget", "9")
    line = refused(capsys, *argv, "--rule", "timer", "--method", "lynx")
    assert "--method lynx is a rule of its own" in line
    assert "signal 'mood' is unknown" in refused(
        capsys, *argv, "--rule", "second-look", "--look-signal", "mood"
    )
    assert not (tmp_path / "a").exists()


def test_a_broken_alpha_is_put_down_to_the_rule(
    files: Path, tmp_path: Path, capsys: Capture
) -> None:
    argv = ["--scores", files / "cal.jsonl", "--loss", "wrong", "--out", tmp_path / "a"]
    for name, reason, options in (
        ("beta-mixture", "the rule 'beta-mixture' promises nothing", []),
        ("mapie", "the per-cue rule promises nothing per request", []),
    ):
        assert run("calibrate", *argv, "--alpha", "0.1", "--rule", name, *options) == 0
        capsys.readouterr()
        assert run("evaluate", tmp_path / "a", "--scores", files / "test.jsonl") == 0
        assert f"BROKEN, {reason}" in capsys.readouterr().out


def test_a_budget_is_judged_by_its_tokens(files: Path, tmp_path: Path, capsys: Capture) -> None:
    argv = ["--scores", files / "cal.jsonl", "--loss", "wrong", "--out", tmp_path / "a"]
    same, longer = files / "test.jsonl", long_traces(files, tmp_path)
    for traces, verdict in (
        (same, "the budget of 300 exceeded, but within the noise"),
        (files / "cal.jsonl", "thinking tokens a trace: the budget of 300 kept."),
        (longer, "the budget of 300 BROKEN, these traces are not like those"),
    ):
        options = ["--rule", "budget", "--budget", "300", "--longest", "5000"]
        assert run("calibrate", *argv, *options) == 0
        capsys.readouterr()
        assert run("evaluate", tmp_path / "a", "--scores", traces, "--include-used") == 0
        shown = capsys.readouterr().out
        assert verdict in shown
        assert "about which the rule 'budget' promises nothing" in shown


def long_traces(files: Path, tmp_path: Path) -> Path:
    """The test traces as if every token were three."""
    lines = []
    for line in (files / "test.jsonl").read_text().splitlines():
        trace = json.loads(line)
        trace["tokens"] *= 3
        for cue in trace["cues"]:
            cue["position"] *= 3
        lines.append(json.dumps(trace))
    (tmp_path / "long.jsonl").write_text("\n".join(lines))
    return tmp_path / "long.jsonl"


# Compare.


def test_own_scores_are_compared_under_every_rule(
    files: Path, tmp_path: Path, capsys: Capture
) -> None:
    sources = ["--scores", files / "cal.jsonl", "--test-scores", files / "test.jsonl"]
    outs = ["--json", tmp_path / "c.json", "--plot", tmp_path / "c.png"]
    assert run("compare", *sources, "--loss", "wrong", "--alpha", "0.1", *outs) == 0
    shown = capsys.readouterr()
    report = json.loads((tmp_path / "c.json").read_text())
    rules = {row["rule"] for row in report["rows"]}
    left_out = {row["rule"]: row["reason"] for row in report["left_out"]}
    assert rules | left_out.keys() == RULES.keys()
    # Ten cues' shares of alpha need 458 traces, so that 600 are enough; a budget must be named.
    assert left_out == {"budget": "needs --budget and --longest"}
    assert "left out 'budget': needs --budget and --longest" in shown.err
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    best = report["best_guaranteed"]
    assert f"Most saved with a guaranteed risk: {best} (" in shown.out
    assert "choice made on the test traces: choose with --on-select" in shown.out
    by_rule = {row["rule"]: row for row in report["rows"]}
    assert by_rule[best]["guarantee"] == "risk"
    fitted = make_rule("hopeless").fit(CAL, Terms("wrong", 0.1))
    assert by_rule["hopeless"]["stopped_share"] == (fitted.stops(TEST) >= 0).mean()


def test_named_rules_and_their_options_alone_are_run(
    files: Path, tmp_path: Path, capsys: Capture
) -> None:
    sources = ["--scores", files / "cal.jsonl", "--test-scores", files / "test.jsonl"]
    named = ["--rule", "budget", "--rule", "level", *OPTIONS["budget"]]
    assert run("compare", *sources, *named, "--json", tmp_path / "c.json") == 0
    report = json.loads((tmp_path / "c.json").read_text())
    assert [row["rule"] for row in report["rows"]] == ["budget", "level"]
    assert report["left_out"] == [] and report["best_guaranteed"] == "level"


def test_a_comparison_that_cannot_be_made_is_one_line(
    files: Path, tmp_path: Path, capsys: Capture
) -> None:
    cal, test = files / "cal.jsonl", files / "test.jsonl"
    own = ["--scores", cal, "--test-scores", test]
    assert "give either --calibrate STORE" in refused(capsys, "compare")
    assert "give either" in refused(capsys, "compare", "--scores", cal)
    assert "give either" in refused(capsys, "compare", *own, "--calibrate", files)
    assert "would not be used with --scores" in refused(capsys, "compare", files, *own)
    assert "need an ARTIFACT" in refused(capsys, "compare", "--calibrate", files, "--test", files)
    assert "choose one of level" in refused(capsys, "compare", *own, "--rule", "best")
    line = refused(capsys, "compare", *own, "--rule", "level", "--budget", "9")
    assert "--budget belongs to the rule 'budget'" in line
    assert "600 groups are among both" in refused(
        capsys, "compare", "--scores", cal, "--test-scores", cal
    )
    line = refused(capsys, "compare", *own, "--alpha", "0.001", "--rule", "level")
    assert "more traces" in line
    write_scores(tmp_path / "blind.jsonl", simulate(SimulatorSettings(600, seed=1)))
    blind = ["--scores", tmp_path / "blind.jsonl", "--test-scores", test]
    assert "answer_tokens" in refused(capsys, "compare", *blind, "--rule", "second-look")


def test_two_artifacts_are_compared_on_traces_that_neither_was_fitted_to(
    tmp_path: Path, capsys: Capture
) -> None:
    records = makers.records(400, seed=5)
    stores = {
        name: makers.store(tmp_path / name, part)
        for name, part in (
            ("first", records[:60]),
            ("second", records[40:100]),
            ("cal", records[80:250]),
            ("test", records[250:]),
        )
    }
    for name, shaping in (("first", "rise"), ("second", "raw")):
        options = ["--train-fraction", "1", "--shaping", shaping]
        assert run("train", stores[name], "--out", tmp_path / f"{name}_probe", *options) == 0
    capsys.readouterr()
    artifacts = [tmp_path / "first_probe", tmp_path / "second_probe"]
    sources = ["--calibrate", stores["cal"], "--test", stores["test"]]
    rules = ["--rule", "level", "--rule", "timer"]
    report = tmp_path / "c.json"
    assert run("compare", *artifacts, *sources, *rules, "--alpha", "0.1", "--json", report) == 0
    shown = capsys.readouterr()
    found = json.loads(report.read_text())
    assert [(Path(row["artifact"]).name, row["rule"]) for row in found["rows"]] == [
        ("first_probe", "level"), ("first_probe", "timer"),
        ("second_probe", "level"), ("second_probe", "timer"),
    ]  # fmt: skip
    assert found["n_test"] == len(TraceDataset(stores["test"]).groups())
    # The second probe has seen the first 20 of the calibration prompts: neither may use them.
    assert "set aside 20 groups" in shown.err and "20 traces left out" in shown.err
    timers = [row["tokens"] for row in found["rows"] if row["rule"] == "timer"]
    assert timers[0] == timers[1]
    same = ["--calibrate", stores["test"], "--test", stores["test"]]
    assert "prompts are in both" in refused(capsys, "compare", artifacts[0], *same)


def test_one_store_is_enough_and_its_select_split_is_for_choosing(
    tmp_path: Path, capsys: Capture
) -> None:
    store = makers.store(tmp_path / "all", makers.records(400, seed=6))
    made = tmp_path / "made"
    shares = ["--train-fraction", ".2", "--select-fraction", ".2", "--test-fraction", ".2"]
    assert run("train", store, "--out", made, *shares) == 0
    argv = ["compare", made, "--calibrate", store, "--test", store, "--alpha", "0.1"]
    argv += ["--rule", "level", "--json", tmp_path / "c.json"]
    splits = Artifact.load(made).splits
    for more, split in (([], "test"), (["--on-select"], "select")):
        capsys.readouterr()
        assert run(*argv, *more) == 0
        shown = capsys.readouterr()
        assert json.loads((tmp_path / "c.json").read_text())["n_test"] == splits[split].size
        assert ("a choice made on the test traces" in shown.out) == (split == "test")
        assert ("quote figures of test traces" in shown.out) == (split == "select")
        for other in {"train", "select", "test"} - {split}:
            assert f"in its split '{other}'" in shown.err
    whole = tmp_path / "whole"
    assert run("train", store, "--out", whole, "--train-fraction", "1") == 0
    fresh = makers.store(tmp_path / "fresh", [makers.record(f"n{i}", 4) for i in range(200)])
    stores = ["--calibrate", fresh, "--test", fresh]
    assert "select-fraction" in refused(capsys, "compare", whole, *stores, "--on-select")


def test_the_select_split_is_a_trace_stores(files: Path, capsys: Capture) -> None:
    own = ["--scores", files / "cal.jsonl", "--test-scores", files / "test.jsonl"]
    for flag in ("--on-select", "--drop-leaked"):
        assert f"{flag} is for trace stores" in refused(capsys, "compare", *own, flag)
