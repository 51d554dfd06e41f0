"""The profile of a data set: how many cues, what scores, how long; drift is measured by it."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from calibration.table import CueTable
from calibration.worst import drawn_rollouts
from probes.validation import Count, Finite, Positive, Record


class Histogram(Record):
    """Counts of a number over a data set.

    Attributes
    ----------
    edges
        Ascending; bin i holds ``edges[i - 1] <= x < edges[i]``, the first and last are open.
    counts
        One more than edges.

    """

    edges: tuple[Finite, ...]
    counts: Annotated[tuple[Count, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError(f"edges: must ascend without repetition, got {list(self.edges)}")
        if len(self.counts) != len(self.edges) + 1:
            raise ValueError(f"counts: {len(self.counts)} for {len(self.edges)} edges")
        return self

    @classmethod
    def of(cls, values: npt.ArrayLike, edges: npt.ArrayLike) -> Self:
        """Count values into given bins."""
        bounds = np.asarray(edges, dtype=np.float64)
        bins = np.searchsorted(bounds, np.asarray(values, dtype=np.float64), side="right")
        counts = np.bincount(bins, minlength=len(bounds) + 1)
        return cls(edges=tuple(bounds.tolist()), counts=tuple(counts.tolist()))

    @property
    def total(self) -> int:
        """How many numbers were counted."""
        return sum(self.counts)

    def bin_of(self, value: float) -> int:
        """Give the index of a number's bin."""
        return int(np.searchsorted(np.asarray(self.edges), value, side="right"))

    @classmethod
    def by_quantiles(cls, values: npt.ArrayLike, bins: int = 10) -> Self:
        """Count values into bins of about equal mass; fewer bins where values repeat."""
        numbers = np.asarray(values, dtype=np.float64)
        inner = np.linspace(0.0, 1.0, bins + 1)[1:-1]
        # Observed values as edges: a quantile between two integers would move with rounding.
        if not numbers.size:
            return cls.of(numbers, ())
        return cls.of(numbers, np.unique(np.quantile(numbers, inner, method="higher")))


class Profile(Record):
    """What the calibration traffic looked like.

    Attributes
    ----------
    n_traces
        Traces counted: one of each prompt, since rollouts of one prompt are alike.
    cues, tokens
        Cues and thinking tokens per full trace.
    scores
        Of all cues.
    top_scores
        The highest score of each trace that has a cue: one number a request, so that fresh
        requests can be tested against it. None in artifacts made before it was kept.

    """

    n_traces: Positive
    cues: Histogram
    tokens: Histogram
    scores: Histogram
    top_scores: Histogram | None = None


def profile_of(table: CueTable) -> Profile:
    """Take the profile of a data set of at least one trace."""
    if table.n_groups < len(table):
        table = table.take(drawn_rollouts(table.trace_ids, table.groups))
    with_cues = np.diff(table.offsets) > 0
    # Traces without cues own no slice: the slices of the others lie end to end.
    top = np.maximum.reduceat(table.scores, table.offsets[:-1][with_cues]) if table.n_cues else ()
    return Profile(
        n_traces=len(table),
        cues=Histogram.by_quantiles(np.diff(table.offsets)),
        tokens=Histogram.by_quantiles(table.tokens),
        scores=Histogram.by_quantiles(table.scores),
        top_scores=Histogram.by_quantiles(top),
    )
