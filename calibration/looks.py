"""What the answers forced at cues tell without any label, as columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.events import CueEvent

UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class Looks:
    """What a forced answer at each cue tells without any label, and what it costs.

    Attributes
    ----------
    repeats
        int32[n_cues], how many cues directly before hold the same answer; -1 unknown.
    confidences
        float32[n_cues], geometric mean of the answer's token probabilities; NaN unknown.
    tokens
        int32[n_cues], length of the answer; -1 unknown.
    """

    repeats: NDArray[np.int32]
    confidences: NDArray[np.float32]
    tokens: NDArray[np.int32]

    @classmethod
    def of(cls, rows: Sequence[tuple[int, float, int]]) -> Looks | None:
        """Turn rows of :func:`look_at` into columns; None where nothing is known."""
        if all(row[0] == row[2] == UNKNOWN and math.isnan(row[1]) for row in rows):
            return None
        repeats, confidences, tokens = zip(*rows, strict=True)
        return cls(
            np.array(repeats, dtype=np.int32),
            np.array(confidences, dtype=np.float32),
            np.array(tokens, dtype=np.int32),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Looks | int]) -> Looks:
        """Put looks one after another; a number stands for as many cues of unknown ones."""

        def column(name: str, unknown: float, dtype: type) -> NDArray[Any]:
            return np.concatenate(
                [
                    np.full(part, unknown, dtype) if isinstance(part, int) else getattr(part, name)
                    for part in parts
                ]
            )

        return cls(
            column("repeats", UNKNOWN, np.int32),
            column("confidences", math.nan, np.float32),
            column("tokens", UNKNOWN, np.int32),
        )

    def take(self, cues: NDArray[np.int64]) -> Looks:
        """Select cues by index."""
        return Looks(self.repeats[cues], self.confidences[cues], self.tokens[cues])


def look_at(cue: CueEvent) -> tuple[int, float, int]:
    """Give a cue's repeats, confidence and answer length; -1, NaN and -1 where unknown."""
    return (
        UNKNOWN if cue.repeats is None else cue.repeats,
        math.nan if cue.confidence is None else cue.confidence,
        UNKNOWN if cue.answer_tokens is None else cue.answer_tokens,
    )
