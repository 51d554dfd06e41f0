"""Profile warnings: whether the audited traffic looks like the calibration traffic.

A panel compares one number a request (cues, thinking tokens, top score) with its histogram in the
artifact's :class:`~calibration.profile.Profile`: a chi-square test of homogeneity, which allows for
the calibration traces being a sample too, at

* growing looks, after about 50, 71, 100, 141, ... requests, on all requests so far, and
* blocks of 50 and of 400 requests, each on its own, so that a late shift, large or small, is not
  drowned by a long good past.

Look k of one of these three kinds spends delta / (3 panels k (k + 1)), so that all looks of all
panels together spend at most delta, however long one watches. Neighbouring bins are joined until
at least 5 are expected in each, where the chi-square approximation is good. A warning also needs
an effect worth naming: a total variation distance of 0.10, that is, at least a tenth of the
requests would have to change to look like the calibration traffic. So large numbers do not warn of
trifles.

References: Pearson (1900); Cochran, "Some methods for strengthening the common chi-square tests"
(1954, the 5 expected); Lan, DeMets, "Discrete sequential boundaries for clinical trials" (1983,
spending a level over looks).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator
from scipy.special import chdtrc

from calibration.monitor.audits import Audit, Moment
from calibration.profile import Histogram, Profile
from probes.validation import Count, Finite, Positive, Record, Text

FIRST_LOOK = 50
BLOCKS = (50, 400)
SMALLEST_EFFECT = 0.10
EXPECTED = 5.0

PANELS: Mapping[str, str] = {
    "cues": "cues",
    "tokens": "thinking tokens",
    "top_scores": "highest score",
}
"""Field of the profile to its name for a person."""

_HAVE = {"cues": "{} cues", "tokens": "{} thinking tokens", "top_scores": "a highest score of {}"}

Counts = NDArray[np.int64]


class ProfileWarning(Record):
    """The first time a panel left its profile.

    Attributes
    ----------
    panel
        A name of :data:`PANELS`.
    window
        On how many requests: all since the start, or the last block.
    audits, time
        When it was noticed.
    p_value, spent
        Of the test, and the level this look could spend.
    distance
        Total variation, 0 to 1.
    text
        What changed, in words.

    """

    panel: Text
    window: Positive
    audits: Positive
    time: Moment
    p_value: Finite
    spent: Finite
    distance: Finite
    text: Text


class BlockState(Record):
    """Counts per bin of the unfinished block, and how many blocks there were."""

    counts: tuple[Count, ...]
    looks: Count = 0


class PanelState(Record):
    """Counts per bin since the start, how many looks there were, and the blocks by size."""

    counts: tuple[Count, ...]
    looks: Count = 0
    blocks: Annotated[tuple[BlockState, ...], Field(min_length=len(BLOCKS), max_length=len(BLOCKS))]
    warning: ProfileWarning | None = None

    @property
    def bins(self) -> int:
        """Bins of its histogram."""
        return len(self.counts)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if any(len(block.counts) != self.bins for block in self.blocks):
            raise ValueError("blocks: other bins than counts")
        return self


class Panel:
    """One number a request, watched against its histogram.

    Parameters
    ----------
    name
        Of :data:`PANELS`.
    reference
        The artifact's histogram, of at least one value.
    level
        What this panel's looks may spend together.
    state
        To go on from.

    """

    def __init__(
        self, name: str, reference: Histogram, level: float, state: PanelState | None = None
    ) -> None:
        if state is None:
            empty = (0,) * len(reference.counts)
            state = PanelState(counts=empty, blocks=(BlockState(counts=empty),) * len(BLOCKS))
        self.name = name
        self.reference = reference
        self.level = level
        self.warning = state.warning
        self._counts = np.array(state.counts, dtype=np.int64)
        self._looks = state.looks
        self._blocks = [np.array(block.counts, dtype=np.int64) for block in state.blocks]
        self._block_looks = [block.looks for block in state.blocks]

    @property
    def counts(self) -> tuple[int, ...]:
        """Requests per bin since the start."""
        return tuple(self._counts.tolist())

    def update(self, value: float, audit: Audit, audits: int) -> None:
        """Take one request in; `audits` is how many there are with it."""
        place = self.reference.bin_of(value)
        self._counts[place] += 1
        if int(self._counts.sum()) == _look_at(self._looks):
            self._looks += 1
            self._test(self._counts, self._looks, audit, audits)
        for kind, (size, block) in enumerate(zip(BLOCKS, self._blocks, strict=True)):
            block[place] += 1
            if int(block.sum()) == size:
                self._block_looks[kind] += 1
                self._test(block, self._block_looks[kind], audit, audits)
                block[:] = 0

    def _test(self, counts: Counts, look: int, audit: Audit, audits: int) -> None:
        if self.warning is not None:
            return
        spent = self.level / (1 + len(BLOCKS)) / (look * (look + 1))
        p_value, distance = homogeneity(self.reference.counts, counts)
        if p_value <= spent and distance >= SMALLEST_EFFECT:
            self.warning = ProfileWarning(
                panel=self.name,
                window=int(counts.sum()),
                audits=audits,
                time=audit.time,
                p_value=p_value,
                spent=spent,
                distance=distance,
                text=describe(self.name, self.reference, counts),
            )

    def state(self) -> PanelState:
        """Give what the next looks depend on."""
        blocks = zip(self._blocks, self._block_looks, strict=True)
        return PanelState(
            counts=self.counts,
            looks=self._looks,
            blocks=tuple(
                BlockState(counts=tuple(counts.tolist()), looks=looks) for counts, looks in blocks
            ),
            warning=self.warning,
        )


def _look_at(look: int) -> int:
    return math.ceil(FIRST_LOOK * 2 ** (look / 2))


def values_of(audit: Audit) -> dict[str, float | None]:
    """Give an audit's number for each panel; None where it has none."""
    return {"cues": audit.cues, "tokens": audit.tokens, "top_scores": audit.top_score}


def references(profile: Profile | None) -> dict[str, Histogram]:
    """Take the histograms that can be watched: those of two bins or more."""
    if profile is None:
        return {}
    found: dict[str, Histogram | None] = {name: getattr(profile, name) for name in PANELS}
    return {name: h for name, h in found.items() if h is not None and h.edges and h.total}


def homogeneity(reference: ArrayLike, counts: ArrayLike) -> tuple[float, float]:
    """Test whether two samples come from one distribution over bins.

    Returns
    -------
    p-value (1 where too few are expected in all bins but one), and the total variation distance of
    the two samples over the joined bins.

    Examples
    --------
    >>> p_value, distance = homogeneity([50, 30, 20], [20, 30, 50])
    >>> round(p_value, 6), round(distance, 3)
    (3e-06, 0.3)

    """
    rows = np.array([reference, counts], dtype=np.float64)
    smaller = rows.sum(axis=1).min() / rows.sum()
    joined: list[NDArray[np.float64]] = []
    pending = np.zeros(2)
    for column in rows.T:
        pending = pending + column
        if pending.sum() * smaller >= EXPECTED:
            joined.append(pending)
            pending = np.zeros(2)
    if not joined:
        return 1.0, 0.0
    joined[-1] = joined[-1] + pending
    table = np.array(joined).T
    if table.shape[1] < 2:
        return 1.0, 0.0
    sizes = table.sum(axis=1, keepdims=True)
    expected = sizes * table.sum(axis=0) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    shares = table / sizes
    distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
    return float(chdtrc(table.shape[1] - 1, statistic)), distance


def describe(name: str, reference: Histogram, counts: ArrayLike) -> str:
    """Say where the two samples differ most."""
    then = np.asarray(reference.counts, dtype=np.float64)
    now = np.asarray(counts, dtype=np.float64)
    above_then = 1 - np.cumsum(then / then.sum())[:-1]
    above_now = 1 - np.cumsum(now / now.sum())[:-1]
    place = int(np.argmax(np.abs(above_now - above_then)))
    edge, share, was = f"{reference.edges[place]:.4g}", above_now[place], above_then[place]
    bound = f"{edge} or more"
    if share < was:
        bound, share, was = f"less than {edge}", 1 - share, 1 - was
    have = _HAVE[name].format(bound)
    return (
        f"{share:.0%} of {now.sum():.0f} requests have {have}; {was:.0%} of those calibrated on had"
    )
