"""`stopper audits` and `stopper monitor`, from simulated traffic to the exit code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import makers
import pytest

from calibration.calibrate import calibrate
from calibration.monitor import read_audits, read_state
from calibration.scores import write_scores
from calibration.simulate import SimulatorSettings, simulate
from calibration.table import CueTable
from stopper import auditing, cli
from stopper.artifact import Artifact
from stopper.calibrating import calibrated

Capture = pytest.CaptureFixture[str]


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
    err = capsys.readouterr().err
    last = err.rsplit("\r", 1)[-1].strip().splitlines()[-1]
    assert last.startswith("stopper: error: ")
    return last


def traffic(path: Path, traces: int, cues: float, seed: int) -> CueTable:
    table = simulate(SimulatorSettings(traces, cues=cues, seed=seed))
    write_scores(path, table)
    return table


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("monitor")
    traffic(folder / "cal.jsonl", 300, 5, 1)
    traffic(folder / "calm.jsonl", 300, 5, 2)
    traffic(folder / "busy.jsonl", 900, 20, 3)
    argv = ["--scores", folder / "cal.jsonl", "--alpha", "0.1"]
    assert run("calibrate", *argv, "--out", folder / "art") == 0
    audits(folder, "calm")
    audits(folder, "calm", "busy", out="shift")
    return folder


def audits(folder: Path, *names: str, out: str | None = None, more: Sequence[str] = ()) -> Path:
    log = folder / f"{out or names[0]}.audits"
    given = [part for name in names for part in ("--scores", str(folder / f"{name}.jsonl"))]
    assert run("audits", folder / "art", *given, "--out", log, *more) == 0
    return log


def test_calm_traffic_is_in_control_and_exits_0(
    files: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "v.json"
    argv = ["--artifact", files / "art", "--json", out, "--plot", tmp_path / "p.png"]
    assert run("monitor", files / "calm.audits", *argv) == 0
    said = capsys.readouterr().out
    assert "in control: " in said and "cues, tokens, top_scores" in said
    report = json.loads(out.read_text())
    assert (report["alarm"], report["audits"], report["since"]) == (False, 300, None)
    assert report["artifact"] == auditing.artifact_name(files / "art")
    assert report["bad"] == sum(one.loss for one in read_audits(files / "calm.audits"))
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_shift_is_warned_of_and_raises_an_alarm_with_exit_3(
    files: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "v.json"
    argv = ["--artifact", files / "art", "--json", out]
    assert run("monitor", files / "shift.audits", *argv) == 3
    said = capsys.readouterr().out
    report = json.loads(out.read_text())
    assert f"ALARM since audit {report['since']}" in said and "Stop stopping" in said
    assert 300 < report["warnings"][0]["audits"] <= 400 < report["since"] < 1200
    assert f"Warning since audit {report['warnings'][0]['audits']}: " in said


def test_mapie_and_another_delta_can_be_asked_for(files: Path, tmp_path: Path) -> None:
    found, log = {}, audits(files, "busy")
    for method in ("betting", "mapie"):
        out = tmp_path / f"{method}.json"
        argv = ["--artifact", files / "art", "--json", out, "--delta", "0.1", "--method", method]
        assert run("monitor", log, *argv) == 3
        found[method] = json.loads(out.read_text())
    assert found["betting"]["delta"] == 0.1
    assert found["betting"]["since"] < found["mapie"]["since"]


def test_the_state_goes_on_counts_nothing_twice_and_keeps_the_alarm(
    files: Path, tmp_path: Path, capsys: Capture
) -> None:
    state, whole = tmp_path / "s.json", tmp_path / "whole.json"
    lines = (files / "shift.audits").read_text().splitlines(keepends=True)
    log = tmp_path / "growing"
    codes = []
    for end in (200, 700, 1200):
        log.write_text("".join(lines[:end]))
        codes.append(run("monitor", log, "--artifact", files / "art", "--state", state))
    assert codes[0] == 0 and codes[2] == 3
    said = capsys.readouterr().err
    assert (
        "700 audits were counted before" in said and "left out 700 audits: counted before" in said
    )
    assert run("monitor", log, "--artifact", files / "art", "--state", whole) == 3
    kept, at_once = read_state(state), read_state(whole)
    assert kept.model_copy(update={"repeated": 0}) == at_once
    log.write_text("".join(lines[:200]))
    assert run("monitor", log, "--artifact", files / "art", "--state", state) == 3


def test_audits_of_other_artifacts_and_alphas_are_counted_and_left_out(
    files: Path, tmp_path: Path, capsys: Capture
) -> None:
    other = audits(files, "busy", out="other", more=["--alpha", "0.2"])
    log = tmp_path / "mixed"
    foreign = other.read_text().replace(auditing.artifact_name(files / "art"), "f" * 16)
    strange = foreign.replace('"request_id":"', '"request_id":"f-')
    log.write_text((files / "calm.audits").read_text() + other.read_text() + strange)
    out = tmp_path / "v.json"
    argv = ["--artifact", files / "art", "--json", out]
    run("monitor", log, *argv)
    assert "left out 900 audits of artifact ffffffffffffffff" in capsys.readouterr().err
    assert [row[:2] for row in json.loads(out.read_text())["tallies"]] == [[0.1, 300], [0.2, 900]]
    assert run("monitor", log, *argv, "--alpha", "0.1") == 0
    assert "left out 900 audits at alpha 0.2" in capsys.readouterr().err
    assert json.loads(out.read_text())["left_out"] == {
        "at alpha 0.2": 900,
        "of artifact ffffffffffffffff": 900,
    }
    assert "no audit of the artifact" in refused(capsys, "monitor", log, *argv, "--alpha", "0.3")


def test_bad_logs_artifacts_and_states_are_refused(
    files: Path, tmp_path: Path, capsys: Capture
) -> None:
    log, bad = files / "calm.audits", tmp_path / "bad"
    argv = ["--artifact", files / "art"]
    bad.write_text(log.read_text() + '{"request_id": 3}\n')
    assert f"{bad}:301: request_id: " in refused(capsys, "monitor", bad, *argv)
    assert "no artifact here" in refused(capsys, "monitor", log, "--artifact", tmp_path)
    bad.write_text("{}")
    state = ["--state", bad]
    assert "not the state of a monitor" in refused(capsys, "monitor", log, *argv, *state)
    delta = ["--delta", "0"]
    assert "delta must lie between 0 and 1" in refused(capsys, "monitor", log, *argv, *delta)


def test_an_artifact_without_a_profile_is_watched_for_its_risk_alone(
    files: Path, tmp_path: Path, capsys: Capture
) -> None:
    loaded = Artifact.load(files / "art")
    bare = loaded.manifest.model_copy(update={"profile": None})
    Artifact(bare, worst_scores=loaded.worst_scores, splits=loaded.splits).save(tmp_path / "bare")
    log = tmp_path / "log"
    scores = ["--scores", files / "calm.jsonl"]
    assert run("audits", tmp_path / "bare", *scores, "--out", log) == 0
    assert run("monitor", log, "--artifact", tmp_path / "bare") == 0
    captured = capsys.readouterr()
    assert "holds no profile" in captured.err and "profile watched" in captured.out


def test_an_artifact_without_a_promise_cannot_be_watched(
    files: Path, tmp_path: Path, capsys: Capture
) -> None:
    table = simulate(SimulatorSettings(300, cues=5, seed=1))
    per_cue = calibrate(table, loss="disagree", alpha=0.1, method="lynx")
    calibrated(per_cue, table).save(tmp_path / "lynx")
    trained = makers.artifact().manifest.model_copy(update={"calibration": None})
    Artifact(trained, makers.artifact().probe, makers.artifact().cues).save(tmp_path / "raw")
    for name, said in (("lynx", "promises nothing per request"), ("raw", "not calibrated")):
        folder = tmp_path / name
        scores = ["--scores", files / "calm.jsonl", "--out", tmp_path / "log"]
        assert said in refused(capsys, "audits", folder, *scores)
        log = files / "calm.audits"
        assert said in refused(capsys, "monitor", log, "--artifact", folder)


def test_audits_follow_one_another_in_time_and_begin_when_told(files: Path) -> None:
    first, second = (list(read_audits(files / f"{name}.audits")) for name in ("calm", "shift"))
    assert second[:300] == first
    assert first[0].time == Artifact.load(files / "art").manifest.created
    seconds = [(one.time - second[0].time).total_seconds() for one in second]
    assert seconds == list(range(1200))
    told = audits(files, "calm", out="told", more=["--begin", "2026-01-02T03:04:05"])
    assert next(read_audits(told)).time == datetime.fromisoformat("2026-01-02T03:04:05+00:00")


def test_sources_of_audits_are_one_kind_and_their_requests_distinct(
    files: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = ["--out", tmp_path / "log"]
    scores = ["--scores", files / "calm.jsonl"]
    assert "give either --scores" in refused(capsys, "audits", files / "art", *out)
    both = [*scores, "--traces", tmp_path, *out]
    assert "not both" in refused(capsys, "audits", files / "art", *both)
    twice = refused(capsys, "audits", files / "art", *scores, *scores, *out)
    assert "is in two of the --scores files" in twice
    assert not (tmp_path / "log").exists()


def test_a_rule_fitted_at_one_alpha_is_audited_at_that_one(
    files: Path, tmp_path: Path, capsys: Capture
) -> None:
    argv = ["--scores", files / "cal.jsonl", "--alpha", "0.1", "--rule", "bonferroni"]
    argv += ["--bonferroni-cues", "2"]
    folder, out = tmp_path / "b", ["--out", tmp_path / "log"]
    assert run("calibrate", *argv, "--out", folder) == 0
    scores = ["--scores", files / "calm.jsonl"]
    assert run("audits", folder, *scores, *out) == 0
    made = list(read_audits(tmp_path / "log"))
    assert {one.alpha for one in made} == {0.1} and any(one.marked for one in made)
    other = refused(capsys, "audits", folder, *scores, *out, "--alpha", "0.2")
    assert "cannot answer alpha 0.2" in other
