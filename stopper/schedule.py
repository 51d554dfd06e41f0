"""Thresholds over the progress of a denoising diffusion, and when to halt it. Pure.

SchED (arXiv 2512.02892): a diffusion language model may fill in all that is still masked once its
mean logit margin exceeds a threshold that falls, from `high` to about `low`, as decoding goes on.
The numbers are picked by hand; they keep no promise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from probes.network import MAX_SCORE
from stopper.errors import InputError

Kind = Literal["linear", "cosine", "exponential", "thirds"]

KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A threshold over progress p in [0, 1].

    linear: ``high + (low - high) p``. cosine: ``low + (high - low) (1 + cos(pi p)) / 2``.
    exponential: ``low + (high - low) exp(-rate p)``, which ends a little above `low`. thirds
    (Prophet, arXiv 2508.19982): `high` while p < 1/3, half way between while p < 2/3, then `low`.

    Parameters
    ----------
    kind
        linear, cosine, exponential or thirds.
    high
        Margin (difference of logits) that the threshold begins at.
    low
        Margin that it falls to; one equal to `high` makes it constant.
    rate
        Of the exponential one alone; the paper tries 2, 4, 8 and 16.

    Raises
    ------
    InputError
        If the kind is unknown, a number is not finite, the threshold would rise, or the rate is
        not positive.

    """

    kind: Kind = "exponential"
    high: float = 7.5
    low: float = 2.5
    rate: float = 16.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(
                f"schedule: kind {self.kind!r} is unknown; choose one of {', '.join(KINDS)}"
            )
        largest = max(abs(self.high), abs(self.low))
        if not (largest <= MAX_SCORE and self.low <= self.high):
            raise InputError(
                f"schedule: high and low must be finite (at most {MAX_SCORE:g} in magnitude) and "
                f"high at least low; got high={self.high}, low={self.low}"
            )
        if not (math.isfinite(self.rate) and self.rate > 0.0):
            raise InputError(f"schedule: rate must be positive and finite; got {self.rate}")

    def threshold(self, progress: float) -> np.float32:
        """Return the threshold, float32.

        Parameters
        ----------
        progress
            i / (T - 1) at denoising step i of T, in [0, 1].

        Raises
        ------
        InputError
            Outside [0, 1].

        Examples
        --------
        >>> schedule = Schedule("linear", high=7.5, low=2.5)
        >>> [float(schedule.threshold(p)) for p in (0.0, 0.5, 1.0)]
        [7.5, 5.0, 2.5]

        """
        if not 0.0 <= progress <= 1.0:
            raise InputError(f"progress must lie in [0, 1]; got {progress}")
        if self.kind == "linear":
            left = 1.0 - progress
        elif self.kind == "cosine":
            left = (1.0 + math.cos(math.pi * progress)) / 2.0
        elif self.kind == "thirds":
            left = 1.0 if 3.0 * progress < 1.0 else 0.5 if 3.0 * progress < 2.0 else 0.0
        else:
            left = math.exp(-self.rate * progress)
        return np.float32(self.low + (self.high - self.low) * left)

    def halts(self, margin: float | np.float32, progress: float) -> bool:
        """Say whether a mean margin ends the denoising here; NaN and infinity never do."""
        value = np.float32(margin)
        return bool(np.isfinite(value) and value > self.threshold(progress))


def mean_margin(margins: Sequence[float] | npt.NDArray[np.floating]) -> np.float32:
    """Return the mean over the region, summed in float64 and rounded once to float32.

    Parameters
    ----------
    margins
        [positions] top-1 minus top-2 logit of each position; at least one.

    """
    with np.errstate(over="ignore", invalid="ignore"):
        return np.float32(np.mean(np.asarray(margins, dtype=np.float64)))
