"""The trace store: a folder of parts, written so that a kill loses nothing already flushed.

``meta.json`` says what all traces share. Part k is ``part-0000k.parquet`` (one row a trace) and
``part-0000k.safetensors`` (their cues' hidden states). The parquet file is renamed into place last:
a part exists if and only if its parquet file does. Workers that collect side by side each write a
store of their own in a folder ``shard-I-of-N`` of it; together they are read as one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from calibration import columns
from calibration.comparers import get_comparer
from calibration.records import CueRecord, TraceMeta, TraceRecord
from calibration.store_files import (
    AGAIN,
    META,
    column,
    joint_meta,
    lock,
    named,
    part_numbers,
    read_meta,
    same_meta,
    stores,
    twice,
    write,
)
from calibration.strings import Seen
from probes.errors import InputError
from probes.events import Trace
from probes.scorers import Scorer
from probes.shaping import shape
from probes.validation import parse

__all__ = ["CueRecord", "TraceDataset", "TraceMeta", "TraceRecord", "TraceWriter", "scored_traces"]


class TraceWriter:
    """Append traces to a store, new or under way.

    Parameters
    ----------
    folder
        The store; made if missing.
    meta
        What all traces share; must equal that of a store under way.
    part_traces, part_bytes
        A part is written by itself once it holds this many traces or bytes of hidden states.

    Raises
    ------
    InputError
        If the store holds other traces (naming the differing fields), is damaged, or is being
        written by another process.

    """

    def __init__(
        self,
        folder: str | Path,
        meta: TraceMeta | Mapping[str, Any],
        *,
        part_traces: int = 64,
        part_bytes: int = 64 << 20,
    ) -> None:
        self.folder = Path(folder)
        if isinstance(meta, TraceMeta):
            self.meta = meta
        else:
            self.meta = parse(TraceMeta, dict(meta), "trace meta", "Mend the field")
        self._limits = (part_traces, part_bytes)
        self._pending: list[TraceRecord] = []
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock: IO[str] | None = lock(self.folder)
        try:
            self._resume()
        except BaseException:
            self._release()
            raise

    def _resume(self) -> None:
        path = self.folder / META
        parts = part_numbers(self.folder)
        if path.exists():
            same_meta(path, read_meta(self.folder), self.meta)
        elif parts:
            raise InputError(f"{path}: missing beside {len(parts)} parts. Choose another folder")
        else:
            write(path, (self.meta.model_dump_json(indent=2) + "\n").encode())
        for stray in self.folder.glob(".*.tmp"):
            stray.unlink()
        self._next = parts[-1] + 1 if parts else 0
        self._ids: set[str] = set()
        if parts:
            dataset = TraceDataset(self.folder)
            self._ids = dataset.ids()
            dataset.check_hidden()

    def done_ids(self) -> frozenset[str]:
        """Return the ids of all traces in the store or waiting for :meth:`flush`."""
        return frozenset(self._ids)

    def append(self, record: TraceRecord) -> None:
        """Add one trace; parts are written as they fill.

        Raises
        ------
        InputError
            If the trace is malformed or its id is already there. What was appended before stays.

        """
        if self._lock is None:
            raise InputError(f"{self.folder}: this writer is closed")
        record.check(self.meta.width)
        if record.trace_id in self._ids:
            raise InputError(f"trace {record.trace_id!r} is already in {self.folder}")
        # Encode once alone, so that one malformed record cannot spoil the part it would share.
        columns.encode([record])
        self._ids.add(record.trace_id)
        self._pending.append(record)
        size = sum(item.hidden.nbytes for item in self._pending)
        if len(self._pending) >= self._limits[0] or size >= self._limits[1]:
            self.flush()

    def flush(self) -> None:
        """Write all waiting traces as one part, durably; none of it is visible until all is."""
        if not self._pending:
            return
        table, tensors = columns.encode(self._pending)
        stem = f"part-{self._next:05d}"
        write(self.folder / f"{stem}.safetensors", tensors)
        write(self.folder / f"{stem}.parquet", table)
        self._next += 1
        self._pending.clear()

    def close(self) -> None:
        """Flush and let go of the store."""
        if self._lock is not None:
            try:
                self.flush()
            finally:
                self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class TraceDataset:
    """Read a store part by part; memory holds one part at a time.

    Parameters
    ----------
    folder
        The store, or a folder that holds those of several workers.

    Raises
    ------
    InputError
        If it is no store, or holds stores of different settings. Damage in a part is found, and its
        file named, when it is read.

    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        found = stores(self.folder)
        self.meta = joint_meta(self.folder, found)
        self.parts = [
            store / f"part-{number:05d}.parquet"
            for store in found
            for number in part_numbers(store)
        ]
        if not self.parts:
            raise InputError(f"{self.folder}: holds no traces yet. Run `stopper collect` first")

    def __len__(self) -> int:
        """Return the number of traces."""
        return sum(named(path, columns.open_table)[0].metadata.num_rows for path in self.parts)

    def ids(self) -> set[str]:
        """Return all trace ids; refuses duplicates."""
        seen: set[str] = set()
        for path in self.parts:
            for trace_id in column(path, "trace_id"):
                if trace_id in seen:
                    raise twice(path, trace_id)
                seen.add(trace_id)
        return seen

    def check_hidden(self) -> None:
        """Refuse parts whose hidden states are missing or truncated; reads headers only."""
        for path in self.parts:
            named(path, self._check_hidden)

    def groups(self) -> dict[str, int]:
        """Return the number of traces per group, without reading anything else."""
        counts: dict[str, int] = {}
        for path in self.parts:
            for group in column(path, "group"):
                counts[group] = counts.get(group, 0) + 1
        return counts

    def __iter__(self) -> Iterator[TraceRecord]:
        """Iterate over all traces in the order of collection, each verified.

        Raises
        ------
        InputError
            Naming the part, the trace, the field and the remedy.

        """
        seen, count = Seen(), 0
        for path in self.parts:
            records = named(path, self._read)
            for record in records:
                if seen.first(record.trace_id, count) != count:
                    raise twice(path, record.trace_id)
                count += 1
                try:
                    record.check(self.meta.width)
                except InputError as problem:
                    raise InputError(f"{path}: {problem}. {AGAIN}") from None
                yield record

    def _check_hidden(self, path: str) -> None:
        columns.check_hidden(str(Path(path).with_suffix(".safetensors")), self.meta.width)

    def _read(self, path: str) -> list[TraceRecord]:
        file, sha256 = columns.open_table(path)
        try:
            tensors = Path(path).with_suffix(".safetensors").read_bytes()
        except OSError as problem:
            raise ValueError(f"its safetensors cannot be read ({problem.strerror})") from None
        return columns.decode(file, tensors, sha256, self.meta.width)


def scored_traces(
    dataset: TraceDataset, probe: Scorer, groups: Collection[str] | None = None
) -> Iterator[Trace]:
    """Score a store with a probe, shaping included: what calibration and evaluation read.

    Parameters
    ----------
    dataset
        Must hold all of the probe's layers.
    probe
        Scores the hidden states at the cues, a whole trace at a time, in order.
    groups
        Keep only traces of these prompts; all by default.

    """
    wanted = dataset.meta.columns(probe.spec.layers)
    comparer = get_comparer(dataset.meta.comparer)
    for record in dataset:
        if groups is None or record.group in groups:
            scores = shape(probe.score(record.hidden[:, wanted]), probe.spec)
            yield record.scored(scores, comparer)
