"""`stopper calibrate` and `stopper evaluate` on own scores and on trace stores."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import makers
import numpy as np
import pytest

from calibration.calibrate import calibrate
from calibration.scores import write_scores
from calibration.simulate import SimulatorSettings, simulate
from calibration.splits import group_hashes
from calibration.traces import TraceDataset, TraceWriter, scored_traces
from stopper import cli
from stopper.artifact import Artifact
from stopper.policy import StopPolicy

Capture = pytest.CaptureFixture[str]

CAL = simulate(SimulatorSettings(300, seed=1))
TEST = simulate(SimulatorSettings(600, seed=2))


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scores")
    write_scores(folder / "cal.jsonl", CAL)
    write_scores(folder / "test.jsonl", TEST)
    return folder


@pytest.fixture(scope="module")
def own(files: Path) -> Path:
    argv = ["--scores", files / "cal.jsonl", "--loss", "wrong", "--alpha", "0.1"]
    assert run("calibrate", *argv, "--out", files / "own") == 0
    return files / "own"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return makers.store(tmp_path_factory.mktemp("store"), makers.records(160, rollouts=2))


@pytest.fixture(scope="module")
def trained(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "a"
    shares = ["--train-fraction", ".4", "--select-fraction", ".1", "--test-fraction", ".2"]
    assert run("train", store, "--out", out, *shares) == 0
    return out


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
    assert "Traceback" not in shown
    return line


# Own scores.


def test_own_scores_become_an_artifact(files: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "a"
    argv = ["--scores", files / "cal.jsonl", "--loss", "wrong", "--alpha", "0.1"]
    options = ["--confidence", "0.95", "--method", "ltt", "--valid-days", "30", "--out", out]
    assert run("calibrate", *argv, *options) == 0
    shown = capsys.readouterr().out
    artifact = Artifact.load(out)
    record = artifact.manifest.calibration
    found = calibrate(CAL, "wrong", 0.1, "ltt", 0.95)
    assert record is not None and artifact.worst_scores is not None
    assert record.promise == found.promise and found.promise in shown
    assert record.threshold == found.threshold
    assert (record.n_units, record.n_traces, record.n_cues) == (300, 300, CAL.n_cues)
    assert artifact.worst_scores.tolist() == found.worst_scores.tolist()
    assert artifact.splits["calibrate"].tolist() == group_hashes(CAL.groups).tolist()
    assert artifact.probe is None and artifact.manifest.model is None
    assert artifact.manifest.expires is not None
    assert (artifact.manifest.expires - artifact.manifest.created).days == 30
    assert StopPolicy.from_artifact(artifact).threshold(0.07) > record.threshold


def test_too_few_traces_are_refused_with_the_number_missing(tmp_path: Path, capsys: Capture):
    write_scores(tmp_path / "few.jsonl", CAL.take(range(30)))
    argv = ["--scores", tmp_path / "few.jsonl", "--loss", "wrong", "--alpha", "0.05"]
    line = refused(capsys, "calibrate", *argv, "--out", tmp_path / "a")
    assert "at least 45, so 15 more" in line
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("method", ["ltt", "crc", "lynx"])
def test_evaluate_tells_kept_from_broken(
    files: Path, tmp_path: Path, capsys: Capture, method: str
) -> None:
    argv = ["--scores", files / "cal.jsonl", "--loss", "wrong", "--alpha", "0.1"]
    assert run("calibrate", *argv, "--method", method, "--out", tmp_path / "a") == 0
    report, plot = tmp_path / "r.json", tmp_path / "p.png"
    files_out = ["--json", report, "--plot", plot]
    assert run("evaluate", tmp_path / "a", "--scores", files / "test.jsonl", *files_out) == 0
    shown = capsys.readouterr().out
    found = json.loads(report.read_text())
    assert found["n_test"] == 600 and found["alpha"] == 0.1
    assert found["oracle_tokens"] < found["stopped"]["tokens"] or method == "lynx"
    assert found["stopped"]["tokens"] < found["full"]["tokens"]
    if method == "lynx":
        assert found["bad_stop_interval"][0] > 0.1
        assert "BROKEN, the per-cue rule promises nothing per request" in shown
    else:
        assert found["bad_stop_interval"][0] <= 0.1
        assert found["lynx"]["bad_stop_share"] > 0.1
        assert "BROKEN" not in shown
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_several_alphas_make_a_curve(own: Path, files: Path, tmp_path: Path, capsys: Capture):
    report = tmp_path / "r.json"
    alphas = ["--alpha", "0.1", "--alpha", "0.05", "--alpha", "0.3", "--alpha", "0.1"]
    argv = ["--scores", files / "test.jsonl", *alphas, "--json", report]
    assert run("evaluate", own, *argv) == 0
    found = json.loads(report.read_text())
    assert [entry["alpha"] for entry in found["alphas"]] == [0.1, 0.05, 0.3]
    tokens = [entry["stopped"]["tokens"] for entry in found["alphas"]]
    assert tokens[1] > tokens[0] > tokens[2]
    assert capsys.readouterr().out.count("stopper (ltt)") == 2


def test_calibration_groups_among_the_test_groups_are_refused_or_warned_of(
    own: Path, files: Path, capsys: Capture
) -> None:
    line = refused(capsys, "evaluate", own, "--scores", files / "cal.jsonl")
    assert "300 of 300 groups" in line and "for instance group 'sim1-p0'" in line
    assert "--include-used" in line
    assert run("evaluate", own, "--scores", files / "cal.jsonl", "--include-used") == 0
    assert "WARNING: 300 groups" in capsys.readouterr().err
    assert run("evaluate", own, "--scores", files / "test.jsonl") == 0
    assert "WARNING" not in capsys.readouterr().err


def test_rollouts_count_once(tmp_path: Path, capsys: Capture) -> None:
    write_scores(tmp_path / "r.jsonl", simulate(SimulatorSettings(200, rollouts=4, seed=5)))
    argv = ["--scores", tmp_path / "r.jsonl", "--loss", "wrong", "--alpha", "0.1"]
    limits = []
    for rollouts in ("one", "worst"):
        out = tmp_path / rollouts
        assert run("calibrate", *argv, "--rollouts", rollouts, "--out", out) == 0
        record = Artifact.load(out).manifest.calibration
        assert record is not None
        assert (record.n_units, record.n_traces, record.rollouts) == (50, 200, 4)
        limits.append(record.threshold)
    assert limits[1] > limits[0]
    assert "count once: each counts by its worst" in capsys.readouterr().err
    argv = ["--scores", tmp_path / "r.jsonl", "--include-used"]
    assert run("evaluate", tmp_path / "one", *argv) == 0
    assert "200 traces of 50 groups" in capsys.readouterr().err


def test_bad_input_is_one_line_that_says_what_to_do(
    own: Path, files: Path, tmp_path: Path, capsys: Capture
) -> None:
    scores = ["--scores", files / "cal.jsonl"]
    out = ["--out", tmp_path / "a"]
    assert "not both" in refused(capsys, "calibrate", *scores, "--traces", files, *out)
    assert "--scores FILE.jsonl" in refused(capsys, "calibrate", *out)
    assert "needs --out" in refused(capsys, "calibrate", *scores)
    assert "Leave it out" in refused(capsys, "calibrate", own, *scores, *out)
    assert "needs the ARTIFACT" in refused(capsys, "calibrate", "--traces", files, *out)
    assert "alpha is 1.0" in refused(capsys, "calibrate", *scores, *out, "--alpha", "1")
    assert "not an artifact" in refused(capsys, "calibrate", *scores, "--out", files)
    cue = '{"position": 1, "score": NaN, "correct": true, "agrees": true}'
    rest = '{"trace_id": "a", "group": "a", "tokens": 1, "full_correct": true, "cues": ['
    (tmp_path / "nan.jsonl").write_text(rest + cue + "]}\n")
    line = refused(capsys, "calibrate", "--scores", tmp_path / "nan.jsonl", *out)
    assert "nan.jsonl:1: cues[0].score is NaN" in line
    test = ["--scores", files / "test.jsonl"]
    assert "is missing" in refused(capsys, "evaluate", tmp_path / "none", *test)
    assert "0.001" in refused(capsys, "evaluate", own, *test, "--alpha", "0.001")
    assert "no probe" in refused(capsys, "evaluate", own, "--traces", files)
    write_scores(tmp_path / "good.jsonl", CAL.take(np.flatnonzero(np.diff(CAL.offsets) == 1)[:0]))
    assert "holds no trace" in refused(
        capsys, "calibrate", "--scores", tmp_path / "good.jsonl", *out
    )
    assert not (tmp_path / "a").exists()


def test_one_class_only_is_refused_unless_it_is_said_to_be_right(
    tmp_path: Path, capsys: Capture
) -> None:
    columns = {f.name: getattr(CAL, f.name) for f in dataclasses.fields(CAL)}
    columns["agrees"] = np.ones_like(CAL.agrees)
    write_scores(tmp_path / "good.jsonl", type(CAL)(**columns))
    argv = ["calibrate", "--scores", tmp_path / "good.jsonl", "--out", tmp_path / "a"]
    line = refused(capsys, *argv)
    assert "good.jsonl: all" in line and "--allow-one-class" in line
    assert run(*argv, "--allow-one-class") == 0
    record = Artifact.load(tmp_path / "a").manifest.calibration
    assert record is not None and record.threshold == -np.inf


# Trace stores.


def test_traces_are_scored_by_the_artifact_and_used_groups_set_aside(
    trained: Path, store: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "a"
    argv = [trained, "--traces", store, "--loss", "disagree", "--alpha", "0.1"]
    assert run("calibrate", *argv, "--out", out) == 0
    shown = capsys.readouterr()
    before, after = Artifact.load(trained), Artifact.load(out)
    record = after.manifest.calibration
    assert before.probe is not None and record is not None
    counts = before.manifest.training["groups"]
    assert isinstance(counts, dict)
    assert record.n_units == counts["calibrate"]
    assert "set aside" in shown.err and f"{counts['train']} train" in shown.err
    # Exactly the prompts that training left for calibration, scored and shaped by its probe.
    for name in ("train", "select", "calibrate", "test"):
        assert after.splits[name].tolist() == before.splits[name].tolist()
    known = set(before.splits["calibrate"].tolist())
    chosen = [
        trace
        for trace in scored_traces(TraceDataset(store), before.probe)
        if set(group_hashes([trace.group]).tolist()) <= known
    ]
    assert record.threshold == calibrate(chosen, "disagree", 0.1).threshold
    assert after.manifest.probe == before.manifest.probe
    assert after.manifest.model == before.manifest.model

    # Evaluation takes what is left: the test split.
    report = tmp_path / "r.json"
    assert run("evaluate", out, "--traces", store, "--json", report) == 0
    found = json.loads(report.read_text())
    assert found["n_groups"] == counts["test"]
    assert found["n_test"] == 2 * counts["test"]
    assert run("evaluate", out, "--traces", store, "--json", report, "--include-used") == 0
    assert json.loads(report.read_text())["n_groups"] == 160
    assert "WARNING" in capsys.readouterr().err


def test_calibration_in_place_is_the_default(trained: Path, store: Path, tmp_path: Path) -> None:
    Artifact.load(trained).save(tmp_path / "a")
    argv = [tmp_path / "a", "--traces", store, "--alpha", "0.1"]
    assert run("calibrate", *argv) == 0
    assert run("calibrate", *argv, "--method", "crc") == 0
    record = Artifact.load(tmp_path / "a").manifest.calibration
    assert record is not None and record.method == "crc" and record.confidence is None


def test_groups_used_in_training_are_refused(
    trained: Path, store: Path, tmp_path: Path, capsys: Capture
) -> None:
    hashes = set(Artifact.load(trained).splits["train"].tolist())
    seen = [
        record
        for record in TraceDataset(store)
        if set(group_hashes([record.group]).tolist()) <= hashes
    ]
    used = makers.store(tmp_path / "used", seen)
    line = refused(capsys, "calibrate", trained, "--traces", used, "--alpha", "0.1")
    assert "all" in line and "train)" in line and "Collect traces of other prompts" in line


def test_an_uncalibrated_artifact_is_sent_to_calibration(
    trained: Path, store: Path, capsys: Capture
) -> None:
    line = refused(capsys, "evaluate", trained, "--traces", store)
    assert "Run `stopper calibrate`" in line


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": makers.fingerprint(dtype="bfloat16")}, "dtype"),
        ({"cues": makers.CUES.model_copy(update={"words": ("so",)}).model_dump(mode="json")}, "so"),
        ({"closing": makers.closing().model_copy(update={"answer_prompt": "else"})}, "closing"),
    ],
    ids=["model", "cues", "closing"],
)
def test_traces_of_another_setting_are_refused(
    trained: Path, tmp_path: Path, capsys: Capture, changes, named: str
) -> None:
    other = tmp_path / "other"
    with TraceWriter(other, makers.meta(**changes)) as writer:
        for record in makers.records(60):
            writer.append(record)
    line = refused(capsys, "calibrate", trained, "--traces", other, "--out", tmp_path / "a")
    assert "another setting" in line and named in line


def test_another_sampling_is_adopted_and_said(
    trained: Path, tmp_path: Path, capsys: Capture
) -> None:
    records = [makers.record(f"new{i}", 4, seed=3) for i in range(60)]
    other = makers.store(tmp_path / "other", records, sampling={"temperature": 0.3})
    out = tmp_path / "a"
    assert run("calibrate", trained, "--traces", other, "--alpha", "0.1", "--out", out) == 0
    assert "sampling" in capsys.readouterr().err
    assert Artifact.load(out).manifest.sampling == {"temperature": 0.3}
    assert Artifact.load(out).splits["calibrate"].size == 60


@pytest.mark.parametrize("command", ["calibrate", "evaluate", "simulate"])
def test_help_explains(command: str, capsys: Capture) -> None:
    assert run(command, "--help") == 0
    assert "traces" in capsys.readouterr().out
