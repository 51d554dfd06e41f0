"""``lynx`` and ``mapie``: the per-cue rules as they are published; baselines, for comparison."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from calibration.conformal import MapiePerCue, lynx_threshold
from calibration.losses import bad_cues, get_loss
from calibration.rules.base import FittedRule, Guarantee, Terms
from calibration.rules.scored import ScoredRule
from calibration.table import CueTable
from probes.errors import UnsupportedError

_AT_ONCE = 1000


@dataclass(frozen=True)
class Lynx(ScoredRule):
    """LYNX's class-conditional split conformal rule at delta = alpha, cue by cue."""

    name: ClassVar[str] = "lynx"
    guarantee: ClassVar[Guarantee] = "none"

    def _fit(self, table: CueTable, terms: Terms) -> FittedRule:
        bad = bad_cues(table, terms.loss)
        limit = lynx_threshold(table.scores[~bad], table.scores[bad], terms.alpha)
        notes: tuple[str, ...] = ()
        if limit == math.inf:
            notes = (f"too few bad cues ({bad.sum()}) for delta {terms.alpha:g}: never stops",)
        return FittedRule(
            self, {"threshold": limit}, per_cue_sentence("LYNX", terms.loss, terms.alpha), notes
        )


@dataclass(frozen=True)
class Mapie(ScoredRule):
    """MAPIE's split conformal classifier (LAC) on pooled cues, at confidence 1 - alpha."""

    name: ClassVar[str] = "mapie"
    guarantee: ClassVar[Guarantee] = "none"

    def _fit(self, table: CueTable, terms: Terms) -> FittedRule:
        bad = bad_cues(table, terms.loss)
        if importlib.util.find_spec("mapie") is None:
            raise UnsupportedError(
                "rule 'mapie' needs MAPIE; install it with `pip install 'stopper[calibrate]'`."
            )
        classifier = MapiePerCue(table.scores[~bad], table.scores[bad], terms.alpha)
        said = per_cue_sentence("MAPIE", terms.loss, terms.alpha)
        return FittedRule(self, {"threshold": lowest_passing(classifier)}, said)


def lowest_passing(classifier: MapiePerCue) -> float:
    """Give the threshold of a rule that passes all scores from some score on, exactly.

    Search over the float32 numbers in their order, a thousand at a time: four questions.
    """
    low, high = _key(np.float32(-np.inf)), _key(np.float32(np.inf))
    while high - low > 1:  # low does not pass (by convention at -inf), high does (at +inf)
        keys = np.unique(np.linspace(low + 1, high - 1, _AT_ONCE).round().astype(np.int64))
        first = int(np.searchsorted(classifier.passes(_values(keys)), True))
        if first > 0:
            low = int(keys[first - 1])
        if first < len(keys):
            high = int(keys[first])
    return float(_values(np.array([low]))[0])


def per_cue_sentence(rule: str, loss: str, delta: float) -> str:
    """Word what a per-cue rule promises: nothing per request."""
    return (
        f"{rule} per cue at delta {delta:g}: a single cue whose stop would be made "
        f"{get_loss(loss).meaning} passes with probability at most {delta:g}. This promises "
        "nothing per request: a trace has many cues, and the share of requests stopped badly "
        "grows with their number. A baseline for comparison, not for serving."
    )


def _key(value: np.float32) -> int:
    """Give a float32 value its number in the order of all of them."""
    bits = int(np.float32(value).view(np.int32))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFF) - 1


def _values(keys: NDArray[np.int64]) -> NDArray[np.float32]:
    bits = np.where(keys >= 0, keys, -keys - 1 - 2**31)
    return bits.astype(np.int32).view(np.float32)
