"""`stopper train` and `stopper inspect` on small real stores, by the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import makers
import numpy as np
import pytest

from calibration.prompts import prompt_hash
from calibration.splits import group_hash
from calibration.table import CueTable
from calibration.traces import TraceDataset, scored_traces
from probes.network import Probe
from probes.sequence import SequenceProbe
from stopper import cli
from stopper.artifact import Artifact
from stopper.errors import InputError
from stopper.gathering import gather
from stopper.train_options import complete_fractions
from stopper.training import share_out

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


@pytest.mark.parametrize(
    ("kind", "dims"),
    [("linear", ()), ("mlp", (12, 5)), ("gru", (4,))],
    ids=["linear", "mlp", "gru"],
)
def test_train_writes_a_whole_artifact(
    traces: Path, tmp_path: Path, capsys: Capture, kind: str, dims: tuple[int, ...]
) -> None:
    out = tmp_path / "a"
    widths = ("--hidden-dims", ",".join(map(str, dims))) if dims else ()
    argv = ("--probe", kind, *widths, "--layers", "1,last", "--test-fraction", ".2")
    assert run("train", traces, "--out", out, *argv) == 0
    shown = capsys.readouterr().out
    for word in ("AUROC", "AUPRC", "Brier", "calibration error", "held-out prompts", "Next:"):
        assert word in shown
    artifact = Artifact.load(out)
    manifest = artifact.manifest
    assert manifest.probe is not None
    assert manifest.probe.layers == (1, 4)
    assert manifest.probe.hidden_dims == dims
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
    data = gather(dataset, (1, 4), dataset.groups(), label="agrees", seed=0, max_cues=50)
    assert data.hidden.shape == (data.table.n_cues, 12)
    assert 40 < data.table.n_cues <= 50
    assert data.cues > 300
    assert data.left_out + len(data.table) == data.traces == 240
    # Whole traces, drawn from the whole store, not from its beginning.
    assert len({group for group in data.table.groups if int(group[1:]) >= 60}) > 5
    ends = {record.trace_id: len(record.cues) for record in dataset}
    kept = dict(zip(data.table.trace_ids, np.diff(data.table.offsets).tolist(), strict=True))
    assert kept == {trace_id: ends[trace_id] for trace_id in kept}
    with pytest.raises(InputError, match="--max-cues 1: not one"):
        only = [record.group for record in dataset if len(record.cues) > 1][:1]
        gather(dataset, (1, 4), only, label="agrees", seed=0, max_cues=1)


def test_gathered_layers_are_those_asked_for(traces: Path) -> None:
    dataset = TraceDataset(traces)
    data = gather(dataset, (1, 2, 4), dataset.groups(), label="agrees", seed=0, max_cues=9999)
    part = gather(dataset, (1, 4), dataset.groups(), label="agrees", seed=0, max_cues=9999)
    assert (data.columns((1, 4)) == part.hidden).all()
    probe = makers.probe(makers.spec(layers=(1, 4)))
    ours = data.scored(probe)
    theirs = CueTable.from_traces(scored_traces(dataset, probe))
    assert (ours.scores == theirs.scores).all()
    assert list(ours.trace_ids) == list(theirs.trace_ids)


def test_traces_without_cues_are_counted(traces: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run("train", traces, "--out", tmp_path / "a", "--train-fraction", "1") == 0
    empty = sum(not record.cues for record in TraceDataset(traces))
    training = Artifact.load(tmp_path / "a").manifest.training
    assert training["traces_without_cues"] == empty > 0
    assert training["left_out_traces"] == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"traces without cues │ {empty} " in shown


# Objectives and memory


def test_first_exit_gives_a_servable_artifact(traces: Path, tmp_path: Path) -> None:
    argv = ("--objective", "first-exit", "--bad-weight", "4", "--train-fraction", ".5")
    assert run("train", traces, "--out", tmp_path / "a", *argv) == 0
    artifact = Artifact.load(tmp_path / "a")
    assert isinstance(artifact.probe, Probe)
    training = artifact.manifest.training
    assert training["objective"] == "first-exit"
    assert training["bad_weight"] == 4.0
    fit = training["fit"]
    assert isinstance(fit, dict)
    assert {"cost_before", "cost_after", "exit_epochs"} <= fit.keys()


def test_a_gru_goes_all_the_way_to_its_evaluation(
    traces: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "a"
    assert run("train", traces, "--out", out, "--probe", "gru", "--train-fraction", ".5") == 0
    assert "no engine serves it yet" in capsys.readouterr().out
    loaded = Artifact.load(out)
    assert isinstance(loaded.probe, SequenceProbe)
    assert loaded.probe.spec.hidden_dims == (16,)
    argv = ("--traces", traces, "--loss", "disagree", "--alpha", "0.2")
    assert run("calibrate", out, *argv) == 0
    # Other prompts, by their token ids as well.
    fresh = [makers.record(f"q{k}", 3, prompt_ids=[1, 9, k]) for k in range(40)]
    test = makers.store(tmp_path / "test", fresh)
    assert run("evaluate", out, "--traces", test, "--alpha", "0.2") == 0
    assert "stopper (ltt)" in capsys.readouterr().out
    record = next(record for record in TraceDataset(traces) if len(record.cues) > 2)
    again = Artifact.load(out).probe
    assert again is not None
    assert (again.score(record.hidden) == loaded.probe.score(record.hidden)).all()


# Choosing

CHOOSE = ("--choose", "--select-fraction", ".4", "--train-fraction", ".4", "--alpha", ".1",
          "--confidence", ".8")  # fmt: skip


def test_choosing_keeps_the_candidate_that_saves_most(
    traces: Path, tmp_path: Path, capsys: Capture
) -> None:
    argv = (*CHOOSE, "--candidates", "linear,first-exit")
    assert run("train", traces, "--out", tmp_path / "a", *argv) == 0
    artifact = Artifact.load(tmp_path / "a")
    training, spec = artifact.manifest.training, artifact.manifest.probe
    choice: Any = training["choice"]
    assert spec is not None
    assert len(choice["table"]) == 8
    rows = {row["name"]: row for row in choice["table"]}
    assert len(rows) == 8
    best = rows[choice["chosen"]]
    assert best["saved"] == max(row["saved"] for row in rows.values())
    assert (best["kind"], tuple(best["layers"]), best["shaping"]) == (
        spec.kind, spec.layers, spec.shaping
    )  # fmt: skip
    assert training["objective"] == best["objective"]
    # The makers' signal is in the first layer alone: the last one cannot win.
    assert spec.layers == makers.LAYERS
    assert choice["groups"] == artifact.splits["select"].size
    shown = capsys.readouterr().out
    assert "two-fold on the" in shown
    assert "linear first-exit, layers 4, rise" in shown


def test_the_winner_is_what_training_it_alone_gives(traces: Path, tmp_path: Path) -> None:
    assert run("train", traces, "--out", tmp_path / "a", *CHOOSE, "--candidates", "linear") == 0
    chosen = Artifact.load(tmp_path / "a")
    assert chosen.probe is not None
    assert chosen.manifest.probe is not None
    alone = ("--shaping", chosen.manifest.probe.shaping, *CHOOSE[1:5])
    assert run("train", traces, "--out", tmp_path / "b", *alone) == 0
    probe = Artifact.load(tmp_path / "b").probe
    assert probe is not None
    for name, tensor in chosen.probe.to_tensors().items():
        assert (tensor == probe.to_tensors()[name]).all()


def test_the_select_split_is_kept_from_the_calibration(traces: Path, tmp_path: Path) -> None:
    assert run("train", traces, "--out", tmp_path / "a", *CHOOSE, "--candidates", "linear") == 0
    argv = ("--traces", traces, "--loss", "disagree", "--alpha", ".2")
    assert run("calibrate", tmp_path / "a", *argv) == 0
    splits = Artifact.load(tmp_path / "a").splits
    assert np.intersect1d(splits["select"], splits["calibrate"]).size == 0
    assert splits["calibrate"].size + splits["select"].size + splits["train"].size == 120


@pytest.mark.parametrize(
    "argv", [["--probe", "gru"], ["--objective", "first-exit"], [*CHOOSE]], ids=lambda argv: argv[0]
)
def test_what_needs_torch_says_so_where_it_is_missing(
    traces: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, argv: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    assert run("train", traces, "--out", tmp_path / "a", *argv) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "needs torch, which is not installed" in error


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--choose"], "the select split is empty. Give it some, for example --select-fraction"),
        (
            ["--choose", "--select-fraction", ".2"],
            "which needs 90 together. Collect more prompts, raise --select-fraction",
        ),
        ([*CHOOSE, "--probe", "mlp"], "--probe is what --choose settles by itself. Drop it"),
        ([*CHOOSE, "--shaping", "raw"], "--shaping is what --choose settles"),
        ([*CHOOSE, "--hidden-dims", "3"], "--hidden-dims is what --choose settles"),
        ([*CHOOSE, "--objective", "cues"], "--objective is what --choose settles"),
        ([*CHOOSE, "--candidates", "svm"], "'svm' is unknown; choose among linear, mlp, gru"),
        (
            [*CHOOSE, "--candidates", "linear", "--bad-weight", "2"],
            "--bad-weight belongs to candidate first-exit",
        ),
        (["--alpha", ".1"], "--alpha belongs to --choose, which is not given. Drop it"),
        (["--candidates", "mlp"], "--candidates belongs to --choose"),
        (["--confidence", ".8"], "--confidence belongs to --choose"),
        (["--bad-weight", "3"], "--bad-weight belongs to --objective first-exit"),
        (["--objective", "first-exit", "--bad-weight", "0"], "--bad-weight 0: give a positive"),
        (["--objective", "first-exit", "--probe", "gru"], "not a gru. Choose --probe linear"),
        (["--probe", "gru", "--hidden-dims", "4,4"], "a gru has exactly one"),
        (["--hidden-dims", "4"], "a linear probe has none"),
        ([*CHOOSE[:-4], "--alpha", "1.5"], "alpha is 1.5"),
    ],
)
def test_options_that_do_not_go_together(
    traces: Path, tmp_path: Path, capsys: Capture, argv: list[str], says: str
) -> None:
    assert run("train", traces, "--out", tmp_path / "a", *argv) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("stopper: error: ")
    assert says in error
    assert not (tmp_path / "a").exists()


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
        "a" * 64, "b" * 64, "comparer", "unknown", "probe.safetensors sha256",
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
    assert fields["splits"]["train"] == {"groups": 2, "prompts": None}


def test_inspect_says_what_is_missing(traces: Path, tmp_path: Path, capsys: Capture) -> None:
    run("train", traces, "--out", tmp_path / "a")
    capsys.readouterr()
    assert run("inspect", tmp_path / "a") == 0
    shown = capsys.readouterr().out
    assert "Not calibrated" in shown
    assert "AUROC" in shown
    assert "0, of splits and fit" in shown and "scikit-learn" in shown and "vllm 0.32.0" in shown
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
    assert f"`stopper calibrate {tmp_path / 'a'} --traces NEW_TRACES --valid-days DAYS`" in shown


def test_inspect_refuses_damage(tmp_path: Path, capsys: Capture) -> None:
    makers.artifact().save(tmp_path / "a")
    (tmp_path / "a/probe.safetensors").write_bytes(b"")
    assert run("inspect", tmp_path / "a") == 2
    assert str(tmp_path / "a/probe.safetensors") in capsys.readouterr().err
