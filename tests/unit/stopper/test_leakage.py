"""Prompts under two names, and promises that ran out: refused or said, by the command line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import makers
import numpy as np
import pytest

from calibration.prompts import prompt_hash
from calibration.records import TraceRecord
from calibration.splits import PROMPTS
from calibration.traces import TraceDataset
from stopper import cli
from stopper.artifact import Artifact

Capture = pytest.CaptureFixture[str]

SHARES = ["--train-fraction", ".4", "--test-fraction", ".2"]


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


def twins(count: int, seed: int = 5) -> list[TraceRecord]:
    """Traces of the prompts p0, p1, ... under other groups' names."""
    return [
        makers.record(f"twin{k}", 3, seed, prompt_ids=makers.record(f"p{k}").prompt_ids)
        for k in range(count)
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return makers.store(tmp_path_factory.mktemp("store"), makers.records(150))


@pytest.fixture(scope="module")
def trained(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "a"
    assert run("train", store, "--out", out, *SHARES) == 0
    return out


def other(folder: Path, leaks: int) -> Path:
    fresh = [makers.record(f"new{k}", 4, seed=9) for k in range(60)]
    return makers.store(folder, [*fresh, *twins(leaks)])


def test_train_refuses_one_prompt_in_two_splits(tmp_path: Path, capsys: Capture) -> None:
    mixed = makers.store(tmp_path / "mixed", [*makers.records(100), *twins(12)])
    line = refused(capsys, "train", mixed, "--out", tmp_path / "a", *SHARES)
    assert "groups hold a prompt that another group brings into another split" in line
    assert "for instance" in line and "--drop-leaked" in line
    assert not (tmp_path / "a").exists()
    assert run("train", mixed, "--out", tmp_path / "a", *SHARES, "--drop-leaked") == 0
    artifact = Artifact.load(tmp_path / "a")
    groups = artifact.manifest.training["groups"]
    left_out = artifact.manifest.training["leaked_groups"]
    assert isinstance(groups, dict) and isinstance(left_out, int) and left_out > 0
    assert sum(map(int, map(str, groups.values()))) == 112 - left_out
    prompts = [artifact.splits[name + PROMPTS] for name in groups]
    assert np.unique(np.concatenate(prompts)).size == sum(map(len, prompts)) <= 100
    # All in one split leaks nothing, and the same store calibrates nothing that leaked.
    assert run("train", mixed, "--out", tmp_path / "b", "--train-fraction", "1") == 0
    line = refused(capsys, "calibrate", tmp_path / "a", "--traces", mixed, "--alpha", "0.1")
    assert f"{left_out} groups hold prompts" in line
    argv = [tmp_path / "a", "--traces", mixed, "--alpha", "0.1", "--drop-leaked"]
    assert run("calibrate", *argv) == 0
    record = Artifact.load(tmp_path / "a").manifest.calibration
    assert record is not None and record.n_units == groups["calibrate"]


@pytest.mark.parametrize("command", ["calibrate", "evaluate"])
def test_another_stores_leaks_are_refused_with_an_example_and_the_remedy(
    trained: Path, store: Path, tmp_path: Path, capsys: Capture, command: str
) -> None:
    leaking = other(tmp_path / "other", 100)
    base = trained
    if command == "evaluate":
        base = tmp_path / "calibrated"
        argv = [trained, "--traces", store, "--alpha", "0.2", "--out", base]
        assert run("calibrate", *argv) == 0
    artifact = Artifact.load(base)
    avoided = ("train", "test") if command == "calibrate" else ("train", "calibrate")
    known = np.concatenate([artifact.splits[name + PROMPTS] for name in avoided])
    expected = sum(prompt_hash(record.prompt_ids) in known.tolist() for record in twins(100))
    argv = [base, "--traces", leaking, "--alpha", "0.2"]
    out = ["--out", tmp_path / "out"] if command == "calibrate" else []
    line = refused(capsys, command, *argv, *out)
    assert f"{expected} groups hold prompts" in line and "'twin" in line
    assert "--drop-leaked" in line
    assert run(command, *argv, *out, "--drop-leaked") == 0
    assert "left out groups whose prompts the artifact used" in capsys.readouterr().err
    if command == "calibrate":
        made = Artifact.load(tmp_path / "out")
        assert made.manifest.calibration is not None
        assert made.manifest.calibration.n_units == 160 - expected
        assert made.splits["calibrate" + PROMPTS].size == 160 - expected
    else:
        report = tmp_path / "r.json"
        assert run(command, *argv, "--include-used", "--json", report) == 0
        assert json.loads(report.read_text())["n_test"] == 160
        assert "WARNING: included groups" in capsys.readouterr().err


def test_an_artifact_without_prompt_hashes_says_so(
    trained: Path, tmp_path: Path, capsys: Capture
) -> None:
    made = Artifact.load(trained)
    old = {name: hashes for name, hashes in made.splits.items() if not name.endswith(PROMPTS)}
    Artifact(made.manifest, made.probe, made.cues, splits=old).save(tmp_path / "old")
    leaking = other(tmp_path / "other", 20)
    argv = [tmp_path / "old", "--traces", leaking, "--alpha", "0.1"]
    assert run("calibrate", *argv) == 0
    shown = capsys.readouterr().err
    assert shown.count("keeps no prompt hashes of its splits train, test") == 1
    assert set(Artifact.load(tmp_path / "old").splits) == {*old, "calibrate.prompts"}


def test_a_store_that_was_trained_on_tells_its_own_prompts(
    trained: Path, tmp_path: Path, capsys: Capture
) -> None:
    made = Artifact.load(trained)
    old = {name: hashes for name, hashes in made.splits.items() if not name.endswith(PROMPTS)}
    Artifact(made.manifest, made.probe, made.cues, splits=old).save(tmp_path / "old")
    mixed = makers.store(tmp_path / "mixed", [*makers.records(150), *twins(30)])
    line = refused(capsys, "calibrate", tmp_path / "old", "--traces", mixed, "--alpha", "0.1")
    assert "groups hold prompts" in line


# A promise that ran out.


def expired(trained: Path, store: Path, folder: Path) -> Path:
    assert run("calibrate", trained, "--traces", store, "--alpha", "0.2", "--out", folder) == 0
    made = Artifact.load(folder)
    past = {
        "created": datetime(2020, 1, 1, tzinfo=UTC),
        "expires": datetime(2020, 2, 1, tzinfo=UTC),
    }
    Artifact(
        made.manifest.model_copy(update=past),
        made.probe,
        made.cues,
        made.worst_scores,
        made.splits,
        made.calibration_tensors,
    ).save(folder)
    return folder


def test_evaluate_warns_of_an_expired_promise_and_calibrate_renews_it(
    trained: Path, store: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = expired(trained, store, tmp_path / "a")
    capsys.readouterr()
    assert run("evaluate", folder, "--traces", store) == 0
    said = capsys.readouterr().err
    renewal = f"`stopper calibrate {folder} --traces NEW_TRACES --valid-days DAYS`"
    assert "WARNING" in said and "expired on 2020-02-01" in said and renewal in said
    argv = [folder, "--traces", store, "--alpha", "0.2"]
    assert run("calibrate", *argv, "--valid-days", "7") == 0
    renewed = Artifact.load(folder).manifest
    assert renewed.expires is not None and (renewed.expires - renewed.created).days == 7
    capsys.readouterr()
    assert run("calibrate", *argv) == 0
    assert "loses it; --valid-days gives it a new one" in capsys.readouterr().err
    assert Artifact.load(folder).manifest.expires is None


def test_what_calibration_records_is_where_the_promise_comes_from(
    trained: Path, store: Path, tmp_path: Path, capsys: Capture
) -> None:
    before = Artifact.load(trained).manifest
    meta = TraceDataset(store).meta
    assert before.comparer == meta.comparer == "auto"
    assert before.engine == meta.engine
    assert before.libraries["vllm"] == "0.32.0" and before.libraries["stopper"]
    assert {"numpy", "scikit-learn"} <= set(before.libraries)
    assert before.profile is None and before.training["max_cues"] == 100_000
    elsewhere = [makers.record(f"new{k}", 4, seed=3) for k in range(60)]
    engine = {"vllm": "0.33.0", "runner": "v2", "device": "cuda"}
    fresh = makers.store(tmp_path / "fresh", elsewhere, engine=engine, comparer="exact")
    out = tmp_path / "a"
    assert run("calibrate", trained, "--traces", fresh, "--alpha", "0.1", "--out", out) == 0
    assert "compared by 'exact', the artifact's by 'auto'" in capsys.readouterr().err
    after = Artifact.load(out).manifest
    assert after.engine == engine and after.libraries["vllm"] == "0.33.0"
    assert after.comparer == "exact" and after.training == before.training
    assert after.profile is not None and after.profile.n_traces == 60
    assert sum(after.profile.scores.counts) == 240
