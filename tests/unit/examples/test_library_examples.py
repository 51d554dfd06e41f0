"""The examples for those who use stopper as a library run as they are, and find what they claim."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from offline_rule import replayed
from transformers import AutoModelForCausalLM

from calibration.losses import bad_cues
from calibration.risk import allowed_above
from calibration.table import CueTable
from stopper.artifact import Artifact

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
SCRIPTS = (
    "own_comparer", "own_probe", "own_scores", "stopping_criteria", "transformers_loop",
)  # fmt: skip

Run = Callable[..., Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    torch.set_num_threads(1)
    monkeypatch.setattr("calibration.comparers._REGISTERED", {})

    def call(name: str, *arguments: str) -> Any:
        return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](list(arguments))

    return call


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(EXAMPLES / "tiny_reasoner" / "model")


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return Artifact.load(EXAMPLES / "tiny_reasoner" / "artifact")


def test_the_loop_decides_as_the_offline_rule_and_saves_tokens(
    run: Run, model: Any, artifact: Artifact, capsys: pytest.CaptureFixture[str]
) -> None:
    ((stopped, full),) = run("transformers_loop", "--prompts", "1", "--seed", "2")
    offline = replayed(artifact, model, full.prompt_ids, full.output_ids, 0.05)
    assert offline.decision == "stop"
    assert (stopped.position, stopped.decision.reason) == (offline.position, offline.reason)
    assert stopped.scores[-1] == (offline.position, pytest.approx(offline.score, abs=1e-3))
    assert stopped.decision.threshold == offline.threshold
    assert stopped.output_ids[: stopped.position] == full.output_ids[: stopped.position]
    assert stopped.output_ids[stopped.position] == artifact.manifest.closing.end_ids[0]
    assert len(stopped.output_ids) < len(full.output_ids)
    assert "the same as in full" in capsys.readouterr().out


def test_generate_stops_each_row_by_itself(
    run: Run, artifact: Artifact, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes, ids = run("stopping_criteria", "--prompts", "3")
    shown = capsys.readouterr().out.splitlines()
    (end,) = artifact.manifest.closing.end_ids
    assert [one.decision for one in outcomes] == ["stop"] * 3
    assert len({one.position for one in outcomes}) == 3
    for outcome, line, row in zip(outcomes, shown, ids.tolist(), strict=True):
        assert end in row
        assert f"{outcome.position} thinking tokens" in line
        assert r"\boxed{" in line


@pytest.mark.parametrize("fit", ["discriminant", "network"])
def test_an_own_probe_becomes_an_artifact_that_keeps_its_promise(
    run: Run, fit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact, outcome = run("own_probe", "--fit", fit, "--out", str(tmp_path / "made"))
    record, training = artifact.manifest.calibration, artifact.manifest.training
    assert training["fitter"] == fit
    assert training["held_out"]["auroc"] > 0.6
    assert record.alpha == 0.1
    assert not set(artifact.splits["train"]) & set(artifact.splits["calibrate"])
    assert Artifact.load(tmp_path / "made").manifest == artifact.manifest
    assert outcome.threshold == record.threshold
    assert outcome.bad_stop_interval[0] < 0.1
    assert outcome.tokens < 250 and outcome.stopped_share > 0.3
    assert record.promise in capsys.readouterr().out


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_own_scores_are_decided_alike_here_by_the_sidecar_and_offline(
    run: Run, form: str, tmp_path: Path
) -> None:
    here, there, traces = run("own_scores", "--form", form, "--out", str(tmp_path))
    rule = Artifact.load(tmp_path / "rule")
    limit, worst = rule.manifest.calibration.threshold, rule.worst_scores
    assert here == there
    assert here == {
        trace.trace_id: next((cue.position for cue in trace.cues if cue.score > limit), None)
        for trace in traces
    }
    assert 0.3 * len(traces) < sum(stop is not None for stop in here.values())
    assert (worst > limit).sum() <= allowed_above(len(worst), 0.1, "ltt", 0.9)
    assert (tmp_path / f"test.{form}").exists()


def test_an_own_comparer_changes_labels_and_what_the_promise_allows(run: Run) -> None:
    tally, before, after = run("own_comparer")
    assert tally.changed["agrees"] == after.agreeing - before.agreeing > 0
    assert tally.answered == tally.answered_before
    assert after.outcome.bad_stops < before.outcome.bad_stops or (
        after.outcome.tokens < before.outcome.tokens
    )


def test_the_traces_are_of_the_tiny_reasoner_and_can_be_stopped_badly(artifact: Artifact) -> None:
    scored = runpy.run_path(str(EXAMPLES / "own_scores.py"))["scored"]
    table = CueTable.from_traces(scored())
    assert len(table) == 170
    assert 0.05 < bad_cues(table, "disagree").mean() < 0.5


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_says_what_an_example_shows(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert ended.value.code == 0
    assert f"python examples/{name}.py" in capsys.readouterr().out


def test_every_script_is_tested_short_and_in_the_index() -> None:
    found = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "__init__")
    helpers = {"rag_documents", "rag_langchain", "rag_llama_index"}  # tested beside this file
    assert [name for name in found if name not in helpers] == sorted(SCRIPTS)
    index = (EXAMPLES.parent / "docs" / "examples.md").read_text("utf-8")
    for name in found:
        assert len((EXAMPLES / f"{name}.py").read_text("utf-8").splitlines()) <= 120
        assert name == "rag_documents" or f"examples/{name}.py" in index
