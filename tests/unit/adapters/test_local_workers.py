"""Workers as processes: watched, counted, ended; with small programs in an engine's place."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import makers
import pytest
import typer
from typer.testing import CliRunner

from adapters.vllm.shards import Shard
from adapters.vllm.workers import Worker, arguments_of, local_shards, running, watch
from probes.errors import InputError


def worker(tmp_path: Path, program: str, index: int = 0, count: int = 2) -> Worker:
    share = Shard(index, count)
    return Worker(share, [sys.executable, "-c", program], {"SHARE": str(share)},
                  share.folder(tmp_path))  # fmt: skip


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_one_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    good = worker(tmp_path, "import os, time; time.sleep(0.6); print(os.environ['SHARE'])", 0)
    bad = worker(tmp_path, "print('working'); raise SystemExit('no room left')", 1)
    assert watch([good, bad], 0) == [bad]
    assert good.code == 0
    assert good.log.read_text() == "0/2\n"
    assert (bad.fate, bad.last_line) == ("ended with exit code 1", "no room left")


def test_what_a_killed_worker_leaves_is_ended(tmp_path: Path) -> None:
    program = (
        "import os, signal, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = worker(tmp_path, program)
    assert watch([killed], 0) == [killed]
    assert killed.fate == "was killed by signal 9"
    child = int(killed.log.read_text())
    deadline = time.monotonic() + 10
    while alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_leaving_early_ends_the_workers(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    sleeper = worker(tmp_path, "import time; time.sleep(60)")
    with pytest.raises(KeyboardInterrupt), running([sleeper]):
        raise KeyboardInterrupt
    assert sleeper.fate == "was killed by signal 15"
    assert signal.getsignal(signal.SIGTERM) is before


def test_traces_are_counted_as_parts_appear(tmp_path: Path) -> None:
    share = Shard(0, 2)
    makers.store(share.folder(tmp_path), makers.records(20))
    found = worker(tmp_path, "pass")
    assert found.traces() == 20


@pytest.mark.parametrize(
    ("workers", "nodes", "rank", "expected"),
    [
        (1, 1, 0, []),
        (3, 1, 0, ["0/3", "1/3", "2/3"]),
        (4, 2, 1, ["2/4", "3/4"]),
    ],
)
def test_each_node_starts_its_own_shares(
    workers: int, nodes: int, rank: int, expected: list[str]
) -> None:
    assert list(map(str, local_shards(workers, nodes, rank, None))) == expected


@pytest.mark.parametrize(
    ("workers", "nodes", "rank", "share", "complaint"),
    [
        (3, 2, 0, None, "does not divide"),
        (4, 2, 2, None, "must be below --nodes 2"),
        (2, 1, 0, Shard(0, 2), "Give the one or the other"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(
    workers: int, nodes: int, rank: int, share: Shard | None, complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        local_shards(workers, nodes, rank, share)


def test_a_worker_gets_the_command_that_was_typed() -> None:
    """Words with spaces, repeated options, flags: all parse again to the same values."""
    app, seen = typer.Typer(), []

    @app.command()
    def collect(
        context: typer.Context,
        model: str,
        cue: Annotated[list[str] | None, typer.Option()] = None,
        prompt: str = "x",
        eager: bool = False,
        cached: bool = True,
        workers: int = 1,
    ) -> None:
        values: dict[str, Any] = {"model": model, "cue": cue, "prompt": prompt, "eager": eager,
                                  "cached": cached}  # fmt: skip
        seen.append((values, arguments_of(context, "workers")))

    typed = ["a model", "--cue", "wait a bit", "--cue=-hm", "--prompt", "", "--eager",
             "--no-cached", "--workers", "2"]  # fmt: skip
    assert CliRunner().invoke(app, typed).exit_code == 0
    assert CliRunner().invoke(app, seen[0][1]).exit_code == 0
    assert seen[1] == seen[0]
    assert "--workers" not in " ".join(seen[0][1])
