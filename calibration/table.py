"""Traces as columns: flat cue arrays with one offset per trace, on which everything is vectorised.

A :class:`CueTable` holds what calibration and evaluation need of any number of traces. Labels are
int8 with three states, because "unknown" must never pass for "wrong".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from probes.errors import InputError
from probes.events import CueEvent, Trace

UNKNOWN, NO, YES = -1, 0, 1


@dataclass(frozen=True, eq=False)
class CueTable:
    """Traces and their cues as columns.

    Attributes
    ----------
    trace_ids, groups
        One string per trace.
    tokens
        int64[n_traces], thinking tokens of the full trace.
    full_correct
        int8[n_traces], 1 yes, 0 no, -1 unknown.
    offsets
        int64[n_traces + 1]; the cues of trace i are ``offsets[i]:offsets[i + 1]``.
    positions
        int64[n_cues], thinking tokens spent when stopped there; increasing within a trace.
    scores
        float32[n_cues], finite; larger means safer to stop.
    correct, agrees
        int8[n_cues], 1 yes, 0 no, -1 unknown.
    """

    trace_ids: Sequence[str]
    groups: Sequence[str]
    tokens: NDArray[np.int64]
    full_correct: NDArray[np.int8]
    offsets: NDArray[np.int64]
    positions: NDArray[np.int64]
    scores: NDArray[np.float32]
    correct: NDArray[np.int8]
    agrees: NDArray[np.int8]

    def __post_init__(self) -> None:
        n_traces, n_cues = len(self.trace_ids), len(self.scores)
        lengths_fit = (
            len(self.groups) == len(self.tokens) == len(self.full_correct) == n_traces
            and len(self.offsets) == n_traces + 1
            and len(self.positions) == len(self.correct) == len(self.agrees) == n_cues
            and self.offsets[0] == 0
            and self.offsets[-1] == n_cues
            and bool(np.all(np.diff(self.offsets) >= 0))
        )
        if not lengths_fit:
            raise InputError("the columns of a cue table differ in length; build it from traces.")
        if not np.isfinite(self.scores).all():
            cue = int(np.flatnonzero(~np.isfinite(self.scores))[0])
            row = int(np.searchsorted(self.offsets, cue, side="right")) - 1
            raise InputError(
                f"trace {self.trace_ids[row]!r}: the score of cue {cue - int(self.offsets[row])} "
                f"is {self.scores[cue]} as float32; drop the trace or score it again."
            )

    def __len__(self) -> int:
        return len(self.trace_ids)

    @property
    def n_cues(self) -> int:
        """Cues in all traces together."""
        return len(self.scores)

    @cached_property
    def n_groups(self) -> int:
        """Distinct groups: the requests that the traces are worth."""
        return len(set(self.groups))

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """int64[n_cues], the index of each cue's trace."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    @classmethod
    def from_traces(cls, traces: Iterable[Trace]) -> CueTable:
        """Turn traces into columns, one pass, nothing kept of the objects."""
        ids: list[str] = []
        groups: list[str] = []
        tokens: list[int] = []
        full: list[int] = []
        ends: list[int] = [0]
        positions: list[int] = []
        scores: list[float] = []
        correct: list[int] = []
        agrees: list[int] = []
        for trace in traces:
            ids.append(trace.trace_id)
            groups.append(trace.group)
            tokens.append(trace.tokens)
            full.append(_encode(trace.full_correct))
            for cue in trace.cues:
                positions.append(cue.position)
                scores.append(cue.score)
                correct.append(_encode(cue.correct))
                agrees.append(_encode(cue.agrees))
            ends.append(len(scores))
        with np.errstate(over="ignore"):  # an overflow becomes inf, which is reported by its trace
            score_column = np.array(scores, dtype=np.float64).astype(np.float32)
        return cls(
            trace_ids=ids,
            groups=groups,
            tokens=np.array(tokens, dtype=np.int64),
            full_correct=np.array(full, dtype=np.int8),
            offsets=np.array(ends, dtype=np.int64),
            positions=np.array(positions, dtype=np.int64),
            scores=score_column,
            correct=np.array(correct, dtype=np.int8),
            agrees=np.array(agrees, dtype=np.int8),
        )

    def traces(self) -> Iterator[Trace]:
        """Give the rows back as trace objects, in order."""
        for row in range(len(self)):
            low, high = int(self.offsets[row]), int(self.offsets[row + 1])
            yield Trace(
                trace_id=self.trace_ids[row],
                group=self.groups[row],
                tokens=int(self.tokens[row]),
                full_correct=_decode(int(self.full_correct[row])),
                cues=tuple(
                    CueEvent(
                        position=int(self.positions[cue]),
                        score=float(self.scores[cue]),
                        correct=_decode(int(self.correct[cue])),
                        agrees=_decode(int(self.agrees[cue])),
                    )
                    for cue in range(low, high)
                ),
            )

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> CueTable:
        """Select traces by index, in the order given."""
        picked = np.asarray(rows, dtype=np.int64)
        lengths = np.diff(self.offsets)[picked]
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        # Each picked trace's cues are consecutive: its first cue plus 0, 1, 2, ...
        cues = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][picked] - offsets[:-1], lengths)
        return CueTable(
            trace_ids=[self.trace_ids[row] for row in picked],
            groups=[self.groups[row] for row in picked],
            tokens=self.tokens[picked],
            full_correct=self.full_correct[picked],
            offsets=offsets,
            positions=self.positions[cues],
            scores=self.scores[cues],
            correct=self.correct[cues],
            agrees=self.agrees[cues],
        )


def as_table(traces: CueTable | Iterable[Trace]) -> CueTable:
    """Accept either form of a data set."""
    return traces if isinstance(traces, CueTable) else CueTable.from_traces(traces)


def _encode(label: bool | None) -> int:
    return UNKNOWN if label is None else int(label)


def _decode(label: int) -> bool | None:
    return None if label == UNKNOWN else bool(label)
