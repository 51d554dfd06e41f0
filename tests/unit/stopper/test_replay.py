"""A replay is the engine's decision, cue by cue."""

from __future__ import annotations

import json
from pathlib import Path

import makers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.losses import bad_cues
from calibration.scores import write_scores
from calibration.simulate import SimulatorSettings, simulate
from calibration.table import CueTable
from calibration.traces import TraceDataset, scored_traces
from probes.events import CueEvent, Trace
from stopper import cli
from stopper.artifact import Artifact
from stopper.policy import StopPolicy
from stopper.replaying import Replayed, Summary, replay, verdict

Capture = pytest.CaptureFixture[str]

FLOATS = st.one_of(
    st.integers(-3, 3).map(float), st.floats(width=32), st.sampled_from([np.inf, -np.inf, np.nan])
)
WORST = st.lists(
    st.one_of(st.just(-np.inf), st.integers(-3, 3).map(float)), min_size=1, max_size=60
)
LABELS = st.sampled_from([True, False, None])
TRUTHS = st.booleans()


def run(*argv: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main([str(part) for part in argv])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def refused(capsys: Capture, *argv: str | Path) -> str:
    capsys.readouterr()
    assert run(*argv) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def trace(scores: list[float], labels: list[bool | None] | None = None) -> Trace:
    marks = labels or [None] * len(scores)
    cues = tuple(
        CueEvent(position=5 * k + 5, score=score, agrees=mark, correct=mark)
        for k, (score, mark) in enumerate(zip(scores, marks, strict=True))
    )
    return Trace("t", "g", 5 * len(scores) + 7, None, cues)


def slowly(policy: StopPolicy, alpha: float, scores: list[float]) -> tuple[int | None, str]:
    """Ask the policy at every cue, as the engine does."""
    reason = "no_cue"
    for at, score in enumerate(scores):
        decision = policy.decide(score, alpha)
        reason = decision.reason
        if decision.stop:
            return at, reason
    return None, reason


@given(st.lists(FLOATS, max_size=8), WORST, st.floats(0.02, 0.98), st.sampled_from(["ltt", "crc"]))
@settings(deadline=None)
def test_a_replay_equals_the_policy_decision_by_decision(
    scores: list[float], worst: list[float], alpha: float, method
) -> None:
    policy = StopPolicy(np.sort(np.array(worst, np.float32)), method, 0.9)
    names = [f"cue{k}" for k in range(len(scores))]
    (found,) = replay(policy, alpha, "disagree", [(trace(scores), names)])
    at, reason = slowly(policy, alpha, scores)
    assert (found.cue, found.reason) == (at, reason)
    assert found.decision == ("keep" if at is None else "stop")
    assert found.position == (None if at is None else 5 * at + 5)
    assert found.label == (None if at is None else f"cue{at}")
    assert found.stop_is == (None if at is None else "unknown")
    assert found.score is None or found.score == np.float32(scores[at or 0])
    json.dumps(found.to_json(), allow_nan=False)


@given(TRUTHS, TRUTHS, TRUTHS, st.sampled_from(["disagree", "wrong", "harm"]))
def test_a_stop_is_judged_as_calibration_judges_it(correct, agrees, full, loss) -> None:
    cue = CueEvent(position=1, score=0.0, correct=correct, agrees=agrees)
    table = CueTable.from_traces([Trace("t", "g", 2, full, (cue,))])
    assert verdict(loss, cue, full) == ("bad" if bad_cues(table, loss)[0] else "good")


@pytest.mark.parametrize(
    ("loss", "correct", "agrees", "full", "expected"),
    [
        ("disagree", True, None, True, "unknown"),
        ("wrong", None, True, True, "unknown"),
        ("harm", None, True, True, "unknown"),
        ("harm", False, True, None, "unknown"),
        ("harm", None, None, False, "good"),
    ],
)
def test_a_missing_label_is_unknown_not_bad(loss, correct, agrees, full, expected) -> None:
    cue = CueEvent(position=1, score=0.0, correct=correct, agrees=agrees)
    assert verdict(loss, cue, full) == expected


def test_a_summary_adds_up() -> None:
    policy = StopPolicy(np.zeros(50, np.float32), "ltt", 0.9)
    found = replay(
        policy,
        0.5,
        "disagree",
        [(trace(*case), [None] * len(case[0])) for case in CASES],
    )
    summary = Summary()
    for one in found:
        assert isinstance(one, Replayed)
        summary.add(one)
    assert summary.to_json() == {
        "traces": 5,
        "stopped": 3,
        "good": 1,
        "bad": 1,
        "unknown": 1,
        "mean_tokens_full": (12 + 17 + 12 + 12 + 7) / 5,
        "mean_tokens": (5 + 10 + 5 + 12 + 7) / 5,
        "reasons": {"no_cue": 1, "score_above_threshold": 3, "score_below_threshold": 1},
    }


CASES: list[tuple[list[float], list[bool | None]]] = [
    ([1.0], [True]),
    ([-1.0, 1.0], [True, False]),
    ([1.0], [None]),
    ([-1.0], [False]),
    ([], []),
]


# By the command line.


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return makers.store(tmp_path_factory.mktemp("store"), makers.records(100))


@pytest.fixture(scope="module")
def artifact(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "a"
    assert run("train", store, "--out", out) == 0
    assert run("calibrate", out, "--traces", store, "--alpha", "0.2") == 0
    return out


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_store_is_replayed_with_names_and_verdicts(
    artifact: Path, store: Path, tmp_path: Path, capsys: Capture
) -> None:
    out, summary = tmp_path / "r.jsonl", tmp_path / "r.json"
    assert run("replay", artifact, store, "--out", out, "--json", summary) == 0
    shown = capsys.readouterr()
    assert "100 of 100 groups made this artifact" in shown.err
    assert "stopped early" in shown.out and "good (loss 'disagree')" in shown.out
    loaded = Artifact.load(artifact)
    policy, record = StopPolicy.from_artifact(loaded), loaded.manifest.calibration
    assert record is not None and loaded.probe is not None
    expected = []
    names = {one.trace_id: [cue.label for cue in one.cues] for one in TraceDataset(store)}
    for one in scored_traces(TraceDataset(store), loaded.probe):
        at, _ = slowly(policy, record.alpha, [cue.score for cue in one.cues])
        stop = None if at is None else one.cues[at]
        judged = None if stop is None else "good" if stop.agrees else "bad"
        label = None if at is None else names[one.trace_id][at]
        expected.append((one.trace_id, at, label, judged))
    found = [(x["trace_id"], x["cue"], x["label"], x["stop_is"]) for x in lines(out)]
    assert found == expected
    assert {"good", "bad", None} <= {judged for *_, judged in expected}
    figures = json.loads(summary.read_text())
    assert figures["good"] == sum(judged == "good" for *_, judged in expected)
    assert figures["alpha"] == 0.2 and figures["traces"] == 100


def test_alpha_and_limit_are_the_callers(
    artifact: Path, store: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "r.jsonl"
    argv = [artifact, store, "--out", out]
    assert run("replay", *argv, "--alpha", "0.0001", "--limit", "7") == 0
    found = lines(out)
    assert len(found) == 7 and {line["threshold"] for line in found} == {"Infinity"}
    assert {line["reason"] for line in found} <= {"too_few_calibration_traces", "no_cue"}
    assert "stopped early" in capsys.readouterr().out
    assert "alpha must lie between 0 and 1" in refused(capsys, "replay", *argv, "--alpha", "1.5")


def test_no_labels_are_needed(artifact: Path, tmp_path: Path, capsys: Capture) -> None:
    from dataclasses import replace

    bare = [
        replace(
            one,
            full_correct=None,
            gold=None,
            cues=[replace(cue, correct=None, agrees=None) for cue in one.cues],
        )
        for one in makers.records(30, seed=4)
    ]
    folder, summary = makers.store(tmp_path / "bare", bare), tmp_path / "r.json"
    assert run("replay", artifact, folder, "--json", summary) == 0
    figures = json.loads(summary.read_text())
    assert figures["unknown"] == figures["stopped"] > 0
    assert "unknown (loss 'disagree')" in capsys.readouterr().out


def test_own_scores_are_replayed_too(tmp_path: Path, capsys: Capture) -> None:
    cal, test = tmp_path / "cal.jsonl", tmp_path / "test.jsonl"
    (tmp_path / "parts").mkdir()
    write_scores(cal, simulate(SimulatorSettings(200, seed=1)))
    table = simulate(SimulatorSettings(50, seed=2))
    write_scores(test, table)
    made, out = tmp_path / "a", tmp_path / "r.jsonl"
    argv = ["--scores", cal, "--loss", "wrong", "--alpha", "0.1", "--out", made]
    assert run("calibrate", *argv) == 0
    assert run("replay", made, test, "--out", out) == 0
    policy = StopPolicy.from_artifact(Artifact.load(made))
    stops = [slowly(policy, 0.1, [cue.score for cue in one.cues])[0] for one in table.traces()]
    assert [line["cue"] for line in lines(out)] == stops
    write_scores(tmp_path / "parts" / "test.parquet", table)
    again = tmp_path / "again.jsonl"
    assert run("replay", made, tmp_path / "parts", "--out", again) == 0
    assert again.read_text() == out.read_text()
    assert "groups made this artifact" not in capsys.readouterr().err
    line = refused(capsys, "replay", made, makers.store(tmp_path / "s", makers.records(3)))
    assert "has no probe" in line


def test_what_cannot_be_replayed_is_refused(
    artifact: Path, store: Path, tmp_path: Path, capsys: Capture
) -> None:
    makers.artifact(calibrated=False).save(tmp_path / "raw")
    assert "Run `stopper calibrate`" in refused(capsys, "replay", tmp_path / "raw", store)
    argv = [artifact, "--traces", store, "--alpha", "0.2", "--out", tmp_path / "other"]
    assert run("calibrate", *argv, "--rule", "timer") == 0
    assert "rule 'timer'" in refused(capsys, "replay", tmp_path / "other", store)
    other = makers.store(tmp_path / "o", makers.records(3), model=makers.fingerprint(dtype="half"))
    assert "dtype is 'half'" in refused(capsys, "replay", artifact, other)
    (tmp_path / "empty.jsonl").write_text("")
    assert "empty.jsonl" in refused(capsys, "replay", artifact, tmp_path / "empty.jsonl")
