"""Two local workers, each a real engine: what they collect is what one would have collected."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from runs import MODEL, TEST_PROMPTS, environment, run_stopper, said

from calibration.traces import TraceDataset

LIMIT = 16
COLLECT = [
    *("collect", MODEL, "--prompts", TEST_PROMPTS, "--limit", LIMIT, "--dtype", "float32"),
    *("--max-model-len", 512, "--max-tokens", 400, "--answer-prompt", ""),
    *("--max-answer-tokens", 24, "--enforce-eager", "--batch", 4),
]
TWO = ("--data-parallel-size", 2)


def start(out: Path, **changes: str) -> subprocess.Popen[str]:
    """Start two workers, an engine each, with a core each where there are two."""
    command = [sys.executable, "-m", "stopper", *COLLECT, "--out", out, *TWO]
    cores = sorted(os.sched_getaffinity(0))
    surroundings = {**environment(), **changes}
    surroundings["VLLM_CPU_OMP_THREADS_BIND"] = f"{cores[0]}|{cores[-1]}"
    return subprocess.Popen(
        list(map(str, command)),
        env=surroundings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    errors = process.communicate(timeout=1000)[1]
    return process.returncode, errors


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    assert run_stopper(*COLLECT, "--out", folder / "traces", folder=folder) == 0, said(folder)
    return TraceDataset(folder / "traces")


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """One of two workers is killed after its first part; its code, words and what is there."""
    out = tmp_path_factory.mktemp("two") / "traces"
    process = start(out, VLLM_ENABLE_V1_MULTIPROCESSING="1")  # engines as GPUs have them
    victim, deadline = out / "shard-0-of-2", time.monotonic() + 300
    while not (victim / "part-00000.parquet").exists():
        assert process.poll() is None, process.stderr.read()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    worker = next(
        child
        for child in psutil.Process(process.pid).children()
        if "--shard=0/2" in child.cmdline()
    )
    engines = worker.children(recursive=True)
    worker.send_signal(signal.SIGKILL)
    code, errors = finish(process)
    return out, code, errors, engines, len(TraceDataset(out))


def test_a_killed_worker_is_told_of_and_the_other_goes_on(killed):
    out, code, errors, _, count = killed
    assert code == 1
    assert "worker 0/2 was killed by signal 9" in errors
    assert "1 of 2 workers failed" in errors
    assert "--shard=0/2" in errors  # the command that does its share alone
    assert "Traceback" not in errors
    others = TraceDataset(out / "shard-1-of-2")
    assert 0 < len(others) < count < LIMIT


def test_the_engine_of_a_killed_worker_is_ended_too(killed):
    engines = killed[3]
    assert engines
    assert not any(engine.is_running() for engine in engines)


def test_the_same_command_does_what_is_missing_and_all_is_as_one_worker_makes_it(killed, alone):
    out, *_ = killed
    before = {path: path.read_bytes() for path in out.glob("*/part-*")}
    code, errors = finish(start(out))
    assert code == 0, errors[-3000:]
    assert all(path.read_bytes() == content for path, content in before.items())
    together = TraceDataset(out)
    assert together.meta == alone.meta
    found = {trace.trace_id: trace for trace in together}
    assert len(found) == LIMIT
    for trace in alone:
        twin = found[trace.trace_id]
        assert twin.output_ids == trace.output_ids
        assert [(c.position, c.forced_ids, c.agrees, c.correct) for c in twin.cues] == [
            (c.position, c.forced_ids, c.agrees, c.correct) for c in trace.cues
        ]
        np.testing.assert_allclose(twin.hidden, trace.hidden, rtol=1e-4, atol=2e-3)
