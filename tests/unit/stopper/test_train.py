"""`stopper train` and `stopper inspect` on small real stores, by the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import makers
import numpy as np
import pytest

from calibration.prompts import prompt_hash
from calibration.splits import group_hash
from calibration.traces import TraceDataset
from stopper import cli
from stopper.artifact import Artifact
from stopper.training import TrainingPlan, complete_fractions, gather, share_out

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return makers.store(tmp_path_factory.mktemp("store"), makers.records(120, rollouts=2))


def run(*argv: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main([str(part) for part in argv])
    code = caught.value.code
    assert isinstance(code, int)
    return code


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_train_writes_a_whole_artifact(
    traces: Path, tmp_path: Path, capsys: Capture, kind: str
) -> None:
    out = tmp_path / "a"
    argv = ("--probe", kind, "--hidden-dims", "12,5", "--layers", "1,last", "--test-fraction", ".2")
    assert run("train", traces, "--out", out, *argv) == 0
    shown = capsys.readouterr().out
    for word in ("AUROC", "AUPRC", "Brier", "calibration error", "held-out prompts", "Next:"):
        assert word in shown
    artifact = Artifact.load(out)
    manifest = artifact.manifest
    assert manifest.probe is not None
    assert manifest.probe.layers == (1, 4)
    assert manifest.probe.hidden_dims == ((12, 5) if kind == "mlp" else ())
    assert manifest.probe.shaping == "rise"
    assert manifest.model == makers.fingerprint()
    assert manifest.closing == makers.closing()
    assert manifest.sampling == makers.meta().sampling
    assert manifest.cues == makers.CUES
    assert artifact.cues is not None
    assert artifact.cues.events([1], [5, 3]) == [(1, "wait")]
    assert manifest.calibration is None
    held_out = manifest.training["held_out"]
    assert isinstance(held_out, dict)
    assert isinstance(held_out["auroc"], float)
    assert held_out["auroc"] > 0.6


def test_the_probe_finds_the_signal_it_was_given(traces: Path, tmp_path: Path) -> None:
    assert run("train", traces, "--out", tmp_path / "a") == 0
    probe = Artifact.load(tmp_path / "a").probe
    assert probe is not None
    # The makers hide it in the first three channels of the first layer.
    weight = probe.layers[0][0][0]
    assert weight[:3].min() > np.abs(weight[3:]).max()


def test_splits_hold_every_prompt_once_and_nothing_leaks(traces: Path, tmp_path: Path) -> None:
    argv = ("--train-fraction", ".4", "--select-fraction", ".1", "--test-fraction", ".2")
    assert run("train", traces, "--out", tmp_path / "a", *argv) == 0
    splits = Artifact.load(tmp_path / "a").splits
    names = {"train", "select", "calibrate", "test"}
    assert set(splits) == names | {f"{name}.prompts" for name in names}
    everyone = sorted(hash_ for name in names for hash_ in splits[name].tolist())
    assert everyone == sorted(group_hash(f"p{k}") for k in range(120))
    prompts = sorted(hash_ for name in names for hash_ in splits[f"{name}.prompts"].tolist())
    assert prompts == sorted({prompt_hash(record.prompt_ids) for record in TraceDataset(traces)})
    assert 30 < splits["train"].size < 66


def test_the_same_seed_gives_the_same_artifact(traces: Path, tmp_path: Path) -> None:
    digests = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert run("train", traces, "--out", tmp_path / name, "--seed", seed) == 0
        files = Artifact.load(tmp_path / name).manifest.files
        digests.append((files["probe.safetensors"], files["splits.safetensors"]))
    assert digests[0] == digests[1]
    assert digests[0][0] != digests[2][0]
    assert digests[0][1] != digests[2][1]


def test_label_correct(traces: Path, tmp_path: Path) -> None:
    assert run("train", traces, "--out", tmp_path / "a", "--label", "correct") == 0
    training = Artifact.load(tmp_path / "a").manifest.training
    assert training["label"] == "correct"
    assert training["unlabelled_cues"] == 0


def test_training_again_replaces_the_artifact(traces: Path, tmp_path: Path) -> None:
    assert run("train", traces, "--out", tmp_path / "a") == 0
    assert run("train", traces, "--out", tmp_path / "a", "--shaping", "raw") == 0
    spec = Artifact.load(tmp_path / "a").manifest.probe
    assert spec is not None
    assert spec.shaping == "raw"


def test_a_store_without_compiled_cues_is_said_aloud(tmp_path: Path, capsys: Capture) -> None:
    makers.store(tmp_path / "s", makers.records(), cues=False)
    assert run("train", tmp_path / "s", "--out", tmp_path / "a") == 0
    assert "cues.safetensors is missing" in " ".join(capsys.readouterr().out.split())
    assert Artifact.load(tmp_path / "a").cues is None


def test_memory_is_bounded_by_max_cues(traces: Path) -> None:
    dataset = TraceDataset(traces)
    plan = TrainingPlan("agrees", {"train": 1.0}, seed=0, max_cues=50)
    data = gather(dataset, (1, 4), list(dataset.groups()), plan)
    assert data.hidden.shape == (50, 12)
    assert data.cues > 300
    # A reservoir draws from the whole store, not from its beginning.
    assert len({group for group in data.groups if int(group[1:]) >= 60}) > 10


def plain(**changes: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return makers.store(folder, [makers.record(f"p{k}", **changes) for k in range(30)])

    return make


def relabelled(**labels: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        traces = makers.records(30)
        for trace in traces:
            for index, cue in enumerate(trace.cues):
                fields = {name: getattr(cue, name) for name in cue.__dataclass_fields__}
                trace.cues[index] = type(cue)(**fields | labels)
        return makers.store(folder, traces)

    return make


def corrupt(folder: Path) -> Path:
    makers.store(folder, makers.records(30))
    (folder / "part-00001.parquet").write_bytes(b"PAR1 no more")
    return folder


def bad_cues(folder: Path) -> Path:
    makers.store(folder, makers.records(30))
    (folder / "cues.safetensors").write_bytes(b"no tensors")
    return folder


@pytest.mark.parametrize(
    ("make", "argv", "says"),
    [
        (plain(cues=0), [], "no cue in any of the 13 training traces"),
        (relabelled(agrees=True), [], "all 29 cues carry the label True: one class only"),
        (relabelled(agrees=None), [], "none of the 29 cues has the label 'agrees'"),
        (relabelled(correct=None), ["--label", "correct"], "gold answers"),
        (corrupt, [], "part-00001.parquet: not a whole parquet file"),
        (bad_cues, [], "cues.safetensors"),
        (lambda folder: folder, [], "meta.json: No such file"),
        (plain(), ["--layers", "1,3"], "layers [3] were not collected"),
        (plain(), ["--layers", "first"], "'first' is neither a layer"),
        (plain(), ["--layers", "0"], "'0' is neither a layer"),
        (plain(), ["--train-fraction", "1.5"], "--train-fraction 1.5"),
        (plain(), ["--train-fraction", "0"], "leaves nothing to fit on"),
        (plain(), ["--train-fraction", ".8", "--test-fraction", ".3"], "sum to 1.1"),
        (plain(), ["--train-fraction", ".001"], "none of the 30 prompts"),
        (plain(), ["--probe", "mlp", "--hidden-dims", "a"], "--hidden-dims 'a'"),
        (plain(), ["--rise-weight", "-1"], "rise_weight"),
    ],
)
def test_refusals_are_one_clear_line(
    tmp_path: Path, capsys: Capture, make: Callable[[Path], Path], argv: list[str], says: str
) -> None:
    assert run("train", make(tmp_path / "s"), "--out", tmp_path / "a", *argv) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("stopper: error: ")
    assert says in error
    assert not (tmp_path / "a").exists()


def test_a_foreign_folder_is_refused_before_the_work(
    traces: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    assert run("train", traces, "--out", tmp_path) == 2
    captured = capsys.readouterr()
    assert "not an artifact" in captured.err
    assert "reading traces" not in captured.err


def test_share_out_leaves_out_empty_splits() -> None:
    groups = [f"g{k}" for k in range(50)]
    assert set(share_out(groups, complete_fractions(1.0, 0.0, 0.0), 0)) == {"train"}
    parts = share_out(groups, complete_fractions(0.5, 0.0, 0.0), 0)
    assert set(parts) == {"train", "calibrate"}
    assert complete_fractions(0.7, 0.2, 0.1)["calibrate"] == 0.0


# Inspect


def test_inspect_shows_the_card(tmp_path: Path, capsys: Capture) -> None:
    makers.artifact().save(tmp_path / "a")
    assert run("inspect", tmp_path / "a") == 0
    shown = capsys.readouterr().out
    for part in (
        "org/tiny", "linear, layers 1, 2, 4, shaping rise, weight 0.5", "hmm, wait, alternatively",
        "ids [2], then 'answer'", "ltt, confidence 0.9", "disagree", "60 prompts",
        "at most a tenth", "never: too few traces",
    ):  # fmt: skip
        assert part in shown


def test_inspect_as_json(tmp_path: Path, capsys: Capture) -> None:
    makers.artifact().save(tmp_path / "a")
    assert run("inspect", tmp_path / "a", "--json") == 0
    fields = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    assert fields["schema_version"] == 2
    assert fields["expired"] is False
    assert fields["thresholds"]["0.01"] == "Infinity"
    assert fields["thresholds"]["0.1"] == pytest.approx(fields["calibration"]["threshold"])


def test_inspect_says_what_is_missing(traces: Path, tmp_path: Path, capsys: Capture) -> None:
    run("train", traces, "--out", tmp_path / "a")
    capsys.readouterr()
    assert run("inspect", tmp_path / "a") == 0
    shown = capsys.readouterr().out
    assert "Not calibrated" in shown
    assert "AUROC" in shown
    makers.artifact(model=None, probe=None, cues=None, closing=None, sampling={}).save(
        tmp_path / "b"
    )
    assert run("inspect", tmp_path / "b") == 0
    assert "made from scores" in capsys.readouterr().out


def test_inspect_shows_an_expired_artifact_as_expired(tmp_path: Path, capsys: Capture) -> None:
    expires = makers.CREATED.replace(year=makers.CREATED.year + 1)
    makers.artifact(expires=expires, created=makers.CREATED).save(tmp_path / "a")
    assert run("inspect", tmp_path / "a") == 0
    shown = capsys.readouterr().out
    assert "expires" in shown
    assert "EXPIRED" in shown


def test_inspect_refuses_damage(tmp_path: Path, capsys: Capture) -> None:
    makers.artifact().save(tmp_path / "a")
    (tmp_path / "a/probe.safetensors").write_bytes(b"")
    assert run("inspect", tmp_path / "a") == 2
    assert str(tmp_path / "a/probe.safetensors") in capsys.readouterr().err
