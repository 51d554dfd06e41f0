"""Whole traces to train on: what a probe needs that looks at more than one cue at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

UNKNOWN, BAD, GOOD = -1, 0, 1


@dataclass(frozen=True, eq=False)
class TrainingTraces:
    """Cues of whole traces as columns.

    Attributes
    ----------
    hidden
        float32 [n, d], cue by cue in order of position, trace by trace.
    offsets
        int64 [t + 1]; trace i owns the cues ``offsets[i]:offsets[i + 1]``, possibly none.
    labels
        int8 [n]: 1 where stopping is good, 0 where it is bad, -1 where that is not known.
    costs
        float64 [n], share of the trace's thinking tokens spent when it is stopped there, in (0, 1].
    groups
        [t], the prompt of each trace.

    """

    hidden: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int8]
    costs: npt.NDArray[np.float64]
    groups: npt.NDArray[np.str_]

    def __post_init__(self) -> None:
        """Refuse columns of different lengths."""
        cues = len(self.hidden)
        if not (
            len(self.labels) == len(self.costs) == cues == self.offsets[-1]
            and len(self.offsets) == len(self.groups) + 1
        ):
            raise ValueError("the columns of the training traces differ in length")

    def __len__(self) -> int:
        """Return the number of traces."""
        return len(self.groups)

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """The trace of each cue; int64 [n]."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    @property
    def cue_groups(self) -> npt.NDArray[np.str_]:
        """The prompt of each cue; [n]."""
        return self.groups[self.rows]

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """Where the label is known; bool [n]."""
        known: npt.NDArray[np.bool_] = self.labels != UNKNOWN
        return known

    def take(self, traces: npt.NDArray[np.int64]) -> TrainingTraces:
        """Select traces by index."""
        cues, rows, _ = self.batch(traces)
        counts = np.bincount(rows, minlength=len(traces))
        return TrainingTraces(
            self.hidden[cues],
            np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
            self.labels[cues],
            self.costs[cues],
            self.groups[traces],
        )

    def keep_cues(self, kept: npt.NDArray[np.bool_]) -> TrainingTraces:
        """Drop the cues where ``kept`` (bool [n]) is false; all traces stay."""
        counts = np.bincount(self.rows[kept], minlength=len(self))
        return TrainingTraces(
            self.hidden[kept],
            np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
            self.labels[kept],
            self.costs[kept],
            self.groups,
        )

    def batch(
        self, traces: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Locate the cues of some traces in a padded batch.

        Returns
        -------
        cues, rows, columns
            int64 [m] each: the cue's index here, its trace's place in ``traces``, and its place in
            that trace.

        """
        starts, counts = self.offsets[traces], np.diff(self.offsets)[traces]
        rows = np.repeat(np.arange(len(traces), dtype=np.int64), counts)
        ends = np.cumsum(counts)
        columns = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
        return np.repeat(starts, counts) + columns, rows, columns

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
        """Yield every trace that has cues once, in random order, ``size`` at a time."""
        order = rng.permutation(np.flatnonzero(np.diff(self.offsets)))
        for start in range(0, len(order), size):
            yield order[start : start + size]


@dataclass(frozen=True, eq=False)
class Standardiser:
    """Mean and scale of each input, and how to fold them into an affine map.

    Attributes
    ----------
    mean, scale
        float64 [d]; the scale of a constant input is 1.

    """

    mean: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]

    @classmethod
    def of(cls, hidden: npt.NDArray[np.float32]) -> Standardiser:
        """Measure hidden states, float32 [n, d]."""
        scale = hidden.std(axis=0, dtype=np.float64)
        return cls(hidden.mean(axis=0, dtype=np.float64), np.where(scale > 0.0, scale, 1.0))

    def apply(self, hidden: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Standardise hidden states; float32 [n, d]."""
        return ((hidden - self.mean) / self.scale).astype(np.float32)

    def fold(
        self, weight: npt.NDArray[np.float64], bias: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Turn an affine map of standardised inputs into one of the inputs themselves."""
        first = (weight / self.scale).astype(np.float32)
        # With the rounded weights: a large common mean then cancels exactly.
        shift = bias - first.astype(np.float64) @ self.mean
        return first, shift.astype(np.float32)

    def unfold(
        self, weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Undo :meth:`fold`."""
        wide = weight.astype(np.float64)
        return wide * self.scale, bias.astype(np.float64) + wide @ self.mean
