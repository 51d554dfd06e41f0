"""Traces as columns: flat cue arrays with one offset per trace, on which everything is vectorised.

A :class:`CueTable` holds what calibration and evaluation need of any number of traces. Labels are
int8 with three states, because "unknown" must never pass for "wrong".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.looks import UNKNOWN, Looks, look_at
from calibration.strings import Strings, first_appearance
from probes.errors import InputError
from probes.events import CueEvent, Trace

NO, YES = 0, 1

__all__ = ["NO", "UNKNOWN", "YES", "CueTable", "Looks", "as_table"]

#: Traces held as Python objects at a time where there are more than that.
BATCH = 4096

_COLUMNS = (
    "trace_ids",
    "groups",
    "tokens",
    "full_correct",
    "offsets",
    "positions",
    "scores",
    "correct",
    "agrees",
)


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
    looks
        Of the forced answers; None where nothing is known of them.
    strata
        Name ("level", "category") to one value a trace, None where unknown; for breakdowns only.
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
    looks: Looks | None = None
    strata: Mapping[str, Sequence[str | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n_traces, n_cues = len(self.trace_ids), len(self.scores)
        lengths_fit = (
            len(self.groups) == len(self.tokens) == len(self.full_correct) == n_traces
            and len(self.offsets) == n_traces + 1
            and len(self.positions) == len(self.correct) == len(self.agrees) == n_cues
            and self.offsets[0] == 0
            and self.offsets[-1] == n_cues
            and bool(np.all(np.diff(self.offsets) >= 0))
            and (self.looks is None or len(self.looks.repeats) == n_cues)
            and all(len(values) == n_traces for values in self.strata.values())
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
    def group_codes(self) -> NDArray[np.int64]:
        """int64[n_traces], each trace's group as a number, counted by first appearance."""
        return first_appearance(self.groups)

    @cached_property
    def n_groups(self) -> int:
        """Distinct groups: the requests that the traces are worth."""
        return int(self.group_codes.max()) + 1 if len(self) else 0

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """int64[n_cues], the index of each cue's trace."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    @classmethod
    def from_traces(cls, traces: Iterable[Trace]) -> CueTable:
        """Turn traces into columns, one pass; at most :data:`BATCH` objects are held at a time."""
        return cls.concatenate(cls.batches(traces))

    @classmethod
    def batches(cls, traces: Iterable[Trace], size: int = BATCH) -> Iterator[CueTable]:
        """Turn traces into tables of `size` traces; the last is smaller."""
        source = iter(traces)
        while batch := list(islice(source, size)):
            yield cls._of(batch)

    @classmethod
    def concatenate(cls, tables: Iterable[CueTable]) -> CueTable:
        """Put tables one after another; the names of more than one are held as :class:`Strings`.

        From an iterator, each table is let go of as its columns are taken: the most that is held at
        a time is all columns and one of them again.
        """
        source = iter(tables)
        first, second = next(source, None), next(source, None)
        if first is None or second is None:
            return cls._of([]) if first is None else first
        parts: dict[str, list[Any]] = {name: [] for name in (*_COLUMNS, "looks", "strata", "sizes")}
        for table in chain((first, second), source):
            for name in _COLUMNS:
                parts[name].append(getattr(table, name))
            parts["looks"].append(table.looks or table.n_cues)
            parts["strata"].append(table.strata)
            parts["sizes"].append((len(table), table.n_cues))
        del first, second, table
        n_cues = np.cumsum([0, *(cues for _, cues in parts["sizes"])])
        for number, start in enumerate(n_cues[:-1]):  # each table's offsets begin at 0
            ends = parts["offsets"][number]
            parts["offsets"][number] = (ends if number == 0 else ends[1:]) + start
        names = dict.fromkeys(name for strata in parts["strata"] for name in strata)
        lengths = [traces for traces, _ in parts["sizes"]]
        strata = {
            name: _strata([part.get(name) for part in parts["strata"]], lengths) for name in names
        }
        looks = None
        if any(isinstance(part, Looks) for part in parts["looks"]):
            looks = Looks.concatenate(parts["looks"])
        return cls(
            **{name: _column(parts.pop(name)) for name in _COLUMNS}, looks=looks, strata=strata
        )

    @classmethod
    def _of(cls, traces: Sequence[Trace]) -> CueTable:
        ids: list[str] = []
        groups: list[str] = []
        tokens: list[int] = []
        full: list[int] = []
        ends: list[int] = [0]
        positions: list[int] = []
        scores: list[float] = []
        correct: list[int] = []
        agrees: list[int] = []
        looks: list[tuple[int, float, int]] = []
        levels: list[str | None] = []
        categories: list[str | None] = []
        for trace in traces:
            ids.append(trace.trace_id)
            groups.append(trace.group)
            tokens.append(trace.tokens)
            full.append(_encode(trace.full_correct))
            levels.append(None if trace.level is None else str(trace.level))
            categories.append(trace.category)
            for cue in trace.cues:
                positions.append(cue.position)
                scores.append(cue.score)
                correct.append(_encode(cue.correct))
                agrees.append(_encode(cue.agrees))
                looks.append(look_at(cue))
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
            looks=Looks.of(looks),
            strata={
                name: values
                for name, values in (("level", levels), ("category", categories))
                if any(value is not None for value in values)
            },
        )

    def traces(self) -> Iterator[Trace]:
        """Give the rows back as trace objects, in order."""
        levels, categories = self.strata.get("level"), self.strata.get("category")
        for row in range(len(self)):
            level = levels[row] if levels else None
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
                        **self._look_of(cue),
                    )
                    for cue in range(low, high)
                ),
                level=None if level is None else int(level),
                category=categories[row] if categories else None,
            )

    def _look_of(self, cue: int) -> dict[str, Any]:
        if self.looks is None:
            return {}
        repeats, tokens = int(self.looks.repeats[cue]), int(self.looks.tokens[cue])
        confidence = float(self.looks.confidences[cue])
        return {
            "repeats": None if repeats == UNKNOWN else repeats,
            "confidence": None if math.isnan(confidence) else confidence,
            "answer_tokens": None if tokens == UNKNOWN else tokens,
        }

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> CueTable:
        """Select traces by index, in the order given."""
        picked = np.asarray(rows, dtype=np.int64)
        lengths = np.diff(self.offsets)[picked]
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        # Each picked trace's cues are consecutive: its first cue plus 0, 1, 2, ...
        cues = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][picked] - offsets[:-1], lengths)
        return CueTable(
            trace_ids=_pick(self.trace_ids, picked),
            groups=_pick(self.groups, picked),
            tokens=self.tokens[picked],
            full_correct=self.full_correct[picked],
            offsets=offsets,
            positions=self.positions[cues],
            scores=self.scores[cues],
            correct=self.correct[cues],
            agrees=self.agrees[cues],
            looks=None if self.looks is None else self.looks.take(cues),
            strata={name: [v[row] for row in picked] for name, v in self.strata.items()},
        )

    def with_scores(self, scores: NDArray[np.float32]) -> CueTable:
        """Give the same traces under other scores, float32[n_cues]."""
        return replace(self, scores=np.asarray(scores, dtype=np.float32))


def as_table(traces: CueTable | Iterable[Trace]) -> CueTable:
    """Accept either form of a data set."""
    return traces if isinstance(traces, CueTable) else CueTable.from_traces(traces)


def _pick(values: Sequence[str], rows: NDArray[np.int64]) -> Sequence[str]:
    return values.take(rows) if isinstance(values, Strings) else [values[row] for row in rows]


def _column(parts: list[Any]) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return Strings.concatenate(parts)


def _strata(
    parts: Sequence[Sequence[str | None] | None], lengths: Sequence[int]
) -> list[str | None]:
    known: dict[str | None, str | None] = {}  # one object for each value, however often it occurs
    return [
        known.setdefault(value, value)
        for part, length in zip(parts, lengths, strict=True)
        for value in (part or [None] * length)
    ]


def _encode(label: bool | None) -> int:
    return UNKNOWN if label is None else int(label)


def _decode(label: int) -> bool | None:
    return None if label == UNKNOWN else bool(label)
