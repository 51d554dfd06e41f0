"""The whole line through the command line: collect, train, calibrate, evaluate, then serve."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from runs import (
    ALPHA,
    ARTIFACT,
    MODEL,
    REASONER,
    SAMPLED,
    TEST_PROMPTS,
    environment,
    run_engine,
    run_stopper,
    said,
)  # fmt: skip
from runs import true_hidden as hidden_by_transformers

from calibration.traces import TraceDataset, scored_traces
from stopper.artifact import Artifact
from stopper.policy import StopPolicy

COLLECT = [
    *("--dtype", "float32", "--max-model-len", "512", "--max-tokens", str(SAMPLED["max_tokens"])),
    *("--answer-prompt", "", "--max-answer-tokens", "24", "--enforce-eager", "--batch", "50"),
]


TEST, TRAIN = 150, 240  # prompts


def stopper(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stopper", *map(str, arguments)]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=1400, check=False
    )
    assert not check or done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done


def collect(prompts: Path, limit: int, out: Path) -> None:
    """Collect by an engine of the host, which has vLLM imported already."""
    arguments = ("collect", MODEL, "--prompts", prompts, "--limit", limit, "--out", out, *COLLECT)
    folder = out.with_name(f"{out.name}-log")
    folder.mkdir()
    assert run_stopper(*arguments, folder=folder) == 0, said(folder)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Traces of collect.jsonl, for a probe, and of test.jsonl; the latter killed and resumed."""
    folder = tmp_path_factory.mktemp("stores")
    kill_after_first_part(folder / "test")
    parts = {p.name: p.read_bytes() for p in (folder / "test").glob("part-*")}
    collect(TEST_PROMPTS, TEST, folder / "test")
    for name, content in parts.items():
        assert (folder / "test" / name).read_bytes() == content
    collect(REASONER / "problems" / "collect.jsonl", TRAIN, folder / "train")
    return folder


def kill_after_first_part(out: Path) -> None:
    command = [sys.executable, "-m", "stopper", "collect", MODEL, "--prompts", TEST_PROMPTS]
    command += ["--limit", str(TEST), "--out", out, *COLLECT]
    with subprocess.Popen(
        list(map(str, command)),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 900
        while not (out / "part-00000.parquet").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        # The whole group: vLLM leaves its workers behind when its parent is killed.
        os.killpg(process.pid, signal.SIGKILL)


def test_a_killed_collection_lost_nothing_and_did_nothing_twice(stores):
    dataset = TraceDataset(stores / "test")
    assert len(dataset) == TEST
    assert len(dataset.ids()) == TEST


def test_collected_hidden_states_are_those_of_transformers(stores):
    artifact = Artifact.load(ARTIFACT)
    dataset = TraceDataset(stores / "test")
    columns = dataset.meta.columns(artifact.probe.spec.layers)
    for trace, _ in zip(dataset, range(40), strict=False):
        if trace.cues:
            fields = {"prompt_ids": trace.prompt_ids, "output_ids": trace.output_ids}
            at = [cue.position - 1 for cue in trace.cues]
            truth = hidden_by_transformers(fields, artifact, at)
            np.testing.assert_allclose(trace.hidden[:, columns], truth, rtol=1e-4, atol=2e-3)


def test_the_engine_stops_where_the_offline_evaluation_says(stores, tmp_path):
    """Collected by one engine run, decided offline; served, seeded alike, by another."""
    artifact = Artifact.load(ARTIFACT)
    limit = StopPolicy.from_artifact(artifact).threshold(ALPHA)
    offline = {
        trace.trace_id: next((c.position for c in trace.cues if np.float32(c.score) > limit), None)
        for trace in scored_traces(TraceDataset(stores / "test"), artifact.probe)
    }
    run = run_engine(tmp_path, limit=TEST, alpha=ALPHA, max_num_seqs=64)
    served = {
        f"{trace['id']}#0": trace["decision"]["position"] for trace in run.result["passes"]["1"]
    }
    assert len(served) == TEST
    assert served == offline
    assert sum(position is not None for position in served.values()) >= 0.4 * TEST


def test_train_calibrate_evaluate(stores, tmp_path):
    made = tmp_path / "artifact"
    stopper("train", stores / "train", "--out", made, "--train-fraction", 0.5)
    stopper("calibrate", made, "--traces", stores / "train", "--loss", "disagree",
            "--alpha", 0.1)  # fmt: skip
    figures = tmp_path / "figures.json"
    stopper("evaluate", made, "--traces", stores / "test", "--json", figures,
            "--plot", tmp_path / "figures.png")  # fmt: skip
    found = json.loads(figures.read_text())
    assert found["n_test"] == TEST
    assert found["oracle_tokens"] < found["full"]["tokens"]
    # The promise, with room for the test draw: a binomial at alpha exceeds this once in 10,000.
    assert found["bad_stops"] <= TEST * 0.1 + 3.7 * np.sqrt(TEST * 0.1 * 0.9)
    assert (tmp_path / "figures.png").stat().st_size > 10_000


def test_too_few_traces_are_refused_with_the_number_missing(stores, tmp_path):
    made = tmp_path / "artifact"
    stopper("train", stores / "train", "--out", made)
    done = stopper("calibrate", made, "--traces", stores / "train", "--alpha", 0.001, check=False)
    assert done.returncode == 2
    assert "more" in done.stderr
    assert "Traceback" not in done.stderr
