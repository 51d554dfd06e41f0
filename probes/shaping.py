"""Shaping within a trace: the level of a score plus its rise over the trace's own minimum.

The state is one number per trace, and everything is float32, so that the whole-trace form used
in calibration and the running form used in the engine give the same bits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from probes.spec import ProbeSpec

FloatArray = npt.NDArray[np.float32]


def weight_of(spec: ProbeSpec) -> float:
    """Return the weight of the rise: 0 for shaping "raw"."""
    return spec.rise_weight if spec.shaping == "rise" else 0.0


def shape(scores: npt.ArrayLike, spec: ProbeSpec) -> FloatArray:
    """Shape the scores of one whole trace.

    Parameters
    ----------
    scores
        float32 [k], raw logits in order of position; NaN marks a score that was not finite.
    spec
        Names the shaping.

    Returns
    -------
    float32 [k]
        ``s + weight * (s - running minimum up to and including this cue)``; NaN stays NaN and
        does not touch the minimum. The first cue of a trace keeps its raw score.

    Examples
    --------
    >>> from probes.spec import ProbeSpec
    >>> spec = ProbeSpec(kind="linear", layers=(1,), hidden_size=4, shaping="rise")
    >>> shape([1.0, -1.0, 3.0], spec).tolist()
    [1.0, -1.0, 5.0]

    """
    raw = np.asarray(scores, dtype=np.float32)
    weight = np.float32(weight_of(spec))
    if weight == 0.0 or raw.size == 0:
        return raw.copy()
    rise = raw - np.fmin.accumulate(raw)
    shaped: FloatArray = raw + rise * weight
    return shaped


class RunningShape:
    """The same for one trace as it grows, cue by cue; O(1) in time and state."""

    __slots__ = ("_low", "_weight")

    def __init__(self, spec: ProbeSpec) -> None:
        self._weight = np.float32(weight_of(spec))
        self._low = np.float32(np.inf)

    def push(self, score: float | np.float32) -> np.float32:
        """Take the next raw score of the trace and return the shaped one (NaN for NaN)."""
        raw = np.float32(score)
        if self._weight == 0.0 or np.isnan(raw):
            return raw
        self._low = np.fmin(self._low, raw)
        return np.float32(raw + np.float32(raw - self._low) * self._weight)
