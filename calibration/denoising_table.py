"""Full denoising decodes as columns, one row per step; `calibration/denoising.py` replays them.

A greedy decode is recorded to its end. At each denoising step, before that step fills anything in,
one row says how sure the model was and whether halting there (every masked position filled with its
argmax) gives the answer of the full decode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration import denoising_files
from probes.errors import InputError
from probes.margins import REGIONS, SIGNALS

COLUMNS = tuple(f"{region}.{how}" for region in REGIONS for how in SIGNALS)
"""Names of the signals that are recorded: "masked.mean" and so on."""

NO, YES, UNKNOWN = 0, 1, -1


@dataclass(frozen=True, eq=False)
class DenoisingTable:
    """Full decodes, one row per denoising step.

    Attributes
    ----------
    signals
        Names of the columns of `values`, each ``REGION.AGGREGATE``; see :data:`COLUMNS`.
    values
        float32 [n_steps, n_signals], see :func:`probes.margins.aggregate`; may be NaN or infinite.
    progress
        float32 [n_steps], in [0, 1], see :mod:`stopper.halting`.
    changed
        bool [n_steps], a masked position's argmax differs from the step before; True at a block's
        first step.
    agree
        bool [n_steps], halted here the answer (one block) or the block's tokens (several) are those
        of the full decode. True at a block's last step, which is the full decode.
    correct
        int8 [n_steps], halted here the answer is right: 1 yes, 0 no, -1 unknown. In a decode of
        several blocks: halted here and nowhere before.
    block_offsets
        int64 [n_blocks + 1]; block b has the steps ``block_offsets[b]:block_offsets[b + 1]``, at
        least one.
    trace_offsets
        int64 [n_traces + 1]; trace i has the blocks ``trace_offsets[i]:trace_offsets[i + 1]``, at
        least one.
    trace_ids, groups
        One name per trace; traces of one group (prompt) count once and are never split.
    levels
        A free label per trace, such as "sudoku/easy"; "" where unknown.
    settings
        What the decodes are of: "model" (fingerprint), "sampler", "engine". For the record.

    Raises
    ------
    InputError
        If columns do not belong together.

    """

    signals: tuple[str, ...]
    values: NDArray[np.float32]
    progress: NDArray[np.float32]
    changed: NDArray[np.bool_]
    agree: NDArray[np.bool_]
    correct: NDArray[np.int8]
    block_offsets: NDArray[np.int64]
    trace_offsets: NDArray[np.int64]
    trace_ids: tuple[str, ...]
    groups: tuple[str, ...]
    levels: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wrong = _wrong(self)
        if wrong:
            raise InputError(f"denoising table: {wrong}; record the decodes again")

    def __len__(self) -> int:
        return len(self.trace_ids)

    @property
    def n_steps(self) -> int:
        """Steps of all decodes together."""
        return len(self.progress)

    @property
    def n_blocks(self) -> int:
        """Blocks of all decodes together."""
        return len(self.block_offsets) - 1

    def column(self, signal: str) -> NDArray[np.float32]:
        """Return one signal, float32 [n_steps].

        Raises
        ------
        InputError
            If it was not recorded.

        """
        if signal not in self.signals:
            raise InputError(
                f"signal {signal!r} was not recorded; there are {', '.join(self.signals)}"
            )
        return np.asarray(self.values[:, self.signals.index(signal)])

    def full_steps(self) -> NDArray[np.int64]:
        """Return the steps of each full decode, int64 [n_traces]."""
        return np.diff(self.block_offsets[self.trace_offsets])

    def full_correct(self) -> NDArray[np.int8]:
        """Return whether each full decode's answer is right, int8 [n_traces], -1 unknown."""
        return np.asarray(self.correct[self.block_offsets[self.trace_offsets[1:]] - 1])

    def select(
        self, rows: NDArray[np.integer] | NDArray[np.bool_] | Sequence[int]
    ) -> DenoisingTable:
        """Return some traces, in the order given.

        Parameters
        ----------
        rows
            Indices, or one bool per trace.

        Raises
        ------
        InputError
            If there is no such row, or the number of bools is wrong.

        """
        chosen = np.asarray(rows)
        if chosen.dtype == np.bool_ and len(chosen) == len(self):
            chosen = np.flatnonzero(chosen)
        if chosen.size == 0:
            chosen = np.zeros(0, dtype=np.int64)
        if chosen.dtype.kind not in "iu" or chosen.ndim != 1 or _outside(chosen, len(self)):
            raise InputError(f"rows {chosen!r} are not traces of a table of {len(self)}")
        chosen = chosen.astype(np.int64)
        blocks, trace_offsets = _ranges(self.trace_offsets, chosen)
        steps, block_offsets = _ranges(self.block_offsets, blocks)
        return DenoisingTable(
            signals=self.signals,
            values=self.values[steps],
            progress=self.progress[steps],
            changed=self.changed[steps],
            agree=self.agree[steps],
            correct=self.correct[steps],
            block_offsets=block_offsets,
            trace_offsets=trace_offsets,
            trace_ids=tuple(self.trace_ids[row] for row in chosen),
            groups=tuple(self.groups[row] for row in chosen),
            levels=tuple(self.levels[row] for row in chosen),
            settings=self.settings,
        )

    @classmethod
    def concat(cls, tables: Sequence[DenoisingTable]) -> DenoisingTable:
        """Put tables one after another; they must be of the same signals and settings.

        Raises
        ------
        InputError
            If there is none, or they are of different settings.

        """
        if not tables:
            raise InputError("there is no denoising table to put together; record some decodes")
        first = tables[0]
        for table in tables[1:]:
            names = {*first.settings, *table.settings}
            differ = [n for n in names if first.settings.get(n) != table.settings.get(n)]
            differ += ["signals"] if first.signals != table.signals else []
            if differ:
                raise InputError(
                    f"denoising tables differ in {', '.join(sorted(differ))}; put only decodes of "
                    "one setting together"
                )
        return cls(
            signals=first.signals,
            values=np.concatenate([table.values for table in tables]),
            progress=np.concatenate([table.progress for table in tables]),
            changed=np.concatenate([table.changed for table in tables]),
            agree=np.concatenate([table.agree for table in tables]),
            correct=np.concatenate([table.correct for table in tables]),
            block_offsets=_joined([table.block_offsets for table in tables]),
            trace_offsets=_joined([table.trace_offsets for table in tables]),
            trace_ids=tuple(name for table in tables for name in table.trace_ids),
            groups=tuple(name for table in tables for name in table.groups),
            levels=tuple(name for table in tables for name in table.levels),
            settings=first.settings,
        )

    def save(self, folder: str | Path) -> None:
        """Write the table as JSON and safetensors into a folder, which is made if need be."""
        denoising_files.write(
            Path(folder),
            {name: getattr(self, name) for name in denoising_files.ARRAYS},
            {name: list(getattr(self, name)) for name in denoising_files.NAMES},
            self.settings,
        )

    @classmethod
    def load(cls, folder: str | Path) -> DenoisingTable:
        """Read a table that :meth:`save` wrote.

        Raises
        ------
        InputError
            If a file is missing, damaged or not what it should be; the message names it.

        """
        arrays, names, settings = denoising_files.read(Path(folder))
        columns: dict[str, Any] = {**arrays, **{key: tuple(held) for key, held in names.items()}}
        try:
            return cls(**columns, settings=settings)
        except InputError as problem:
            raise InputError(f"{folder}: {problem}") from None


def _outside(rows: NDArray[Any], n: int) -> bool:
    return bool(rows.size and (rows.min() < 0 or rows.max() >= n))


def _ranges(
    offsets: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all members of the chosen rows, and the rows' offsets among them."""
    starts, counts = offsets[rows], offsets[rows + 1] - offsets[rows]
    ends = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
    return np.arange(ends[-1]) + np.repeat(starts - ends[:-1], counts), ends


def _joined(offsets: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    counts = np.concatenate([np.diff(part) for part in offsets])
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])


def _wrong(table: DenoisingTable) -> str:
    """Return what is wrong with a table; "" if nothing is."""
    n_steps, n_traces = len(table.progress), len(table.trace_ids)
    blocks, traces = table.block_offsets, table.trace_offsets
    columns = {
        "values": (table.values, np.float32, (n_steps, len(table.signals))),
        "progress": (table.progress, np.float32, (n_steps,)),
        "changed": (table.changed, np.bool_, (n_steps,)),
        "agree": (table.agree, np.bool_, (n_steps,)),
        "correct": (table.correct, np.int8, (n_steps,)),
        "block_offsets": (blocks, np.int64, (max(1, len(blocks)),)),
        "trace_offsets": (traces, np.int64, (n_traces + 1,)),
    }
    for name, (array, dtype, shape) in columns.items():
        if array.dtype != dtype or array.shape != shape:
            return (
                f"{name} is {array.dtype} {list(array.shape)}, expected {np.dtype(dtype)} "
                f"{list(shape)}"
            )
    if not len(table.groups) == len(table.levels) == n_traces:
        return "trace_ids, groups and levels differ in length"
    if len(set(table.trace_ids)) != n_traces:
        return "a trace_id occurs twice"
    if len(set(table.signals)) != len(table.signals) or not set(table.signals) <= set(COLUMNS):
        return f"signals are {table.signals}, expected some of {COLUMNS}"
    for name, offsets, end in (
        ("block_offsets", blocks, n_steps),
        ("trace_offsets", traces, len(blocks) - 1),
    ):
        if offsets[0] != 0 or offsets[-1] != end or (np.diff(offsets) < 1).any():
            return f"{name} must rise from 0 to {end}"
    if not ((table.progress >= 0) & (table.progress <= 1)).all():
        return "progress must lie in [0, 1]"
    if not np.isin(table.correct, (NO, YES, UNKNOWN)).all():
        return "correct must be 1, 0 or -1"
    if not table.changed[blocks[:-1]].all():
        return "changed must be true at the first step of a block"
    if not table.agree[blocks[1:] - 1].all():
        return "agree must be true at the last step of a block, which is the full decode"
    return ""
