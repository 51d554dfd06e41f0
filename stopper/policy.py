"""The decision at a cue: a pure function of the score, the calibration and the request's alpha."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from calibration.risk import threshold as exact_threshold
from probes.errors import ArtifactError, InputError
from stopper.artifact import Artifact

Reason = Literal[
    "score_above_threshold",
    "score_below_threshold",
    "score_not_finite",
    "too_few_calibration_traces",
]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do at one cue, and why.

    Attributes
    ----------
    stop
        End the thinking here.
    reason
        One of a fixed set of names, fit for a metric's label.
    threshold
        What the score was compared with, float32; +inf where no threshold keeps the promise.

    """

    stop: bool
    reason: Reason
    threshold: np.float32


class StopPolicy:
    """Stop at the first cue whose shaped score exceeds the threshold for the request's alpha.

    Parameters
    ----------
    worst_scores
        float32 [n], ascending; per calibration unit its highest bad score, -inf without one.
    method, confidence
        As calibrated; ``confidence`` is ignored by "crc".

    """

    def __init__(
        self,
        worst_scores: npt.NDArray[np.float32],
        method: Literal["ltt", "crc"],
        confidence: float,
    ) -> None:
        self.worst_scores = worst_scores
        self.method = method
        self.confidence = confidence
        self._known: dict[float, np.float32] = {}

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> StopPolicy:
        """Take the policy out of a calibrated artifact.

        Raises
        ------
        ArtifactError
            If the artifact is not calibrated, by LYNX's rule, which promises nothing per trace, or
            for another rule than the plain threshold.

        """
        record = artifact.manifest.calibration
        if record is None:
            raise ArtifactError("the artifact is not calibrated. Run `stopper calibrate` on it")
        if artifact.manifest.context is not None or record.method == "hcp":
            raise ArtifactError(
                "the artifact is a sentence filter, which drops sentences of documents and stops "
                "nothing. `stopper compress` and the proxy read it"
            )
        if record.method == "mapie":
            raise ArtifactError(
                f"the artifact was calibrated by method mapie, for alpha {record.alpha:g} alone; "
                "see stopper.halting_policy"
            )
        if record.method == "lynx" or artifact.worst_scores is None:
            raise ArtifactError(
                "the artifact was calibrated by method lynx, a baseline for offline comparison. "
                "Calibrate with `--method ltt` or `--method crc` to serve it"
            )
        if record.rule != "level":
            raise ArtifactError(
                f"the artifact was calibrated for the rule '{record.rule}', which can be evaluated "
                "offline; the engine serves 'level' alone. Calibrate with `--rule level` to serve "
                "it"
            )
        return cls(artifact.worst_scores, record.method, record.confidence or 0.9)

    def threshold(self, alpha: float) -> np.float32:
        """Return the exact threshold for ``alpha``; +inf where the calibration set is too small.

        Raises
        ------
        InputError
            If ``alpha`` is not strictly between 0 and 1.

        """
        known = self._known.get(alpha)
        if known is None:
            if not 0.0 < alpha < 1.0:
                raise InputError(f"alpha must lie between 0 and 1, both excluded; got {alpha}")
            found = exact_threshold(self.worst_scores, alpha, self.method, self.confidence)
            # Requests choose their own alpha: forget all before the cache grows without bound.
            if len(self._known) >= 4096:
                self._known.clear()
            known = self._known[alpha] = np.float32(found)
        return known

    def decide(self, score: float | np.float32, alpha: float) -> Decision:
        """Decide at one cue.

        Parameters
        ----------
        score
            Shaped logit; taken as float32.
        alpha
            The request's tolerated share of bad stops.

        """
        limit = self.threshold(alpha)
        with np.errstate(over="ignore"):
            value = np.float32(score)
        if not np.isfinite(value):
            return Decision(False, "score_not_finite", limit)
        if limit == np.inf:
            return Decision(False, "too_few_calibration_traces", limit)
        if value > limit:
            return Decision(True, "score_above_threshold", limit)
        return Decision(False, "score_below_threshold", limit)
