"""Local workers of one collection: each an engine and a process of its own, watched from here.

vLLM runs the ranks of a dense model's data parallel as independent engines, and refuses its offline
form for them (`vllm/config/parallel.py`: "not supported/useful for dense models"); it links ranks
only to share the experts of a mixture. So here too: workers share nothing but a folder.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.vllm.shards import Shard
from calibration.store_files import part_numbers
from stopper.errors import InputError

if TYPE_CHECKING:
    import typer

LOG = "worker.log"

_GRACE = 30.0  # seconds a worker has to end when it is told to


@dataclass
class Worker:
    """One worker: its share, and the command and environment it is started with."""

    shard: Shard
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    code: int | None = None
    _counted: dict[Path, int] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """What it prints goes here, after what its earlier runs printed."""
        return self.folder / LOG

    def start(self) -> None:
        """Start it in a session of its own, so that its engine can be ended with it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def poll(self) -> bool:
        """Tell whether it has ended; what a dead worker leaves of its engine is ended too."""
        if self.process is None or self.code is not None:
            return True
        # Look without burying: until it is, no other process can have its group's number.
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        found = os.waitid(os.P_PID, self.process.pid, flags)
        if found is None:
            return False
        if found.si_code != os.CLD_EXITED or found.si_status != 0:
            self.signal(signal.SIGKILL)
        self.code = self.process.wait()
        return True

    def signal(self, number: int) -> None:
        """Send a signal to the worker and its engine."""
        if self.process is not None and self.code is None:
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                return

    def traces(self) -> int:
        """Count the traces in its store, by the ends of the files that are new."""
        from calibration.columns import open_table

        for number in part_numbers(self.folder):
            path = self.folder / f"part-{number:05d}.parquet"
            if path not in self._counted:
                self._counted[path] = open_table(str(path))[0].metadata.num_rows
        return sum(self._counted.values())

    @property
    def fate(self) -> str:
        """How it ended, in words."""
        code = self.code or 0
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    @property
    def last_line(self) -> str:
        """The end of its log."""
        lines = self.log.read_bytes()[-4000:].decode(errors="replace").split("\n")
        kept = [line.strip() for line in lines if line.strip()]
        return kept[-1][:300] if kept else ""


@contextmanager
def running(workers: Sequence[Worker]) -> Iterator[None]:
    """Start workers; on the way out, tell those still at work to end, and end them."""

    def ended(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, ended)
    try:
        for worker in workers:
            worker.start()
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        for worker in workers:
            if not worker.poll():
                worker.signal(signal.SIGTERM)
        deadline = time.monotonic() + _GRACE
        while any(not worker.poll() for worker in workers) and time.monotonic() < deadline:
            time.sleep(0.1)
        for worker in workers:
            if not worker.poll():
                worker.signal(signal.SIGKILL)


def watch(workers: Sequence[Worker], total: int) -> list[Worker]:
    """Run workers to their ends; one that dies does not stop the others.

    Parameters
    ----------
    total
        Traces that they are to add, for the bar.

    Returns
    -------
    The workers that failed.

    """
    from tqdm import tqdm

    told: set[Shard] = set()
    before = sum(worker.traces() for worker in workers)
    with running(workers), tqdm(total=total, unit="trace", desc="collect") as bar:
        while True:
            ended = [worker for worker in workers if worker.poll()]
            done = sum(worker.traces() for worker in workers) - before
            # On a terminal the clock moves too; a log gets a line where there is news.
            if done != bar.n or sys.stderr.isatty():
                bar.n = done
                bar.refresh()
            for worker in ended:
                if worker.code and worker.shard not in told:
                    told.add(worker.shard)
                    bar.write(f"stopper: worker {worker.shard} {worker.fate}; see {worker.log}")
            if len(ended) == len(workers):
                break
            time.sleep(0.5)
    return [worker for worker in workers if worker.code]


def local_shards(workers: int, nodes: int, node_rank: int, shard: Shard | None) -> list[Shard]:
    """Give the shares that workers on this machine are to be started for.

    Parameters
    ----------
    workers
        On all machines together.
    nodes, node_rank
        Machines, each with as many workers, and the number of this one.
    shard
        The share of this very process, which then starts no worker.

    Raises
    ------
    InputError
        If these do not fit together.

    """
    if shard is not None:
        if (workers, nodes, node_rank) != (1, 1, 0):
            raise InputError(
                f"--shard {shard} is one worker; --data-parallel-size, --nodes and --node-rank "
                "start several. Give the one or the other"
            )
        return []
    if workers % nodes:
        raise InputError(
            f"--data-parallel-size {workers} does not divide among --nodes {nodes}; it counts the "
            "workers of all machines"
        )
    if node_rank >= nodes:
        raise InputError(f"--node-rank {node_rank}: must be below --nodes {nodes}")
    here = workers // nodes
    shares = [Shard(node_rank * here + number, workers) for number in range(here)]
    return shares if workers > 1 else []


def arguments_of(context: typer.Context, *without: str) -> list[str]:
    """Give back the command line of a command, but for some parameters.

    Parameters
    ----------
    context
        Of the command that is running.
    without
        Names of parameters to leave out.

    Returns
    -------
    Words that parse to the same parameters, in the order of the command's help.

    """
    words: list[str] = []
    for parameter in context.command.params:
        name, value = parameter.name or "", context.params.get(parameter.name or "")
        if name in without or value is None or value == parameter.get_default(context):
            continue
        if parameter.param_type_name == "argument":
            words.insert(0, str(value))
        elif getattr(parameter, "is_flag", False):
            words.append(parameter.opts[0] if value else parameter.secondary_opts[0])
        else:
            items = value if isinstance(value, (list, tuple)) else [value]
            words += [f"{parameter.opts[0]}={item}" for item in items]
    return words
