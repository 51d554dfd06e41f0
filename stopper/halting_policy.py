"""When to halt the denoising of a request: an artifact's halting rule, and its level per alpha."""

from __future__ import annotations

import numpy as np

from calibration.risk import check_alpha, require_units
from probes.errors import ArtifactError, InputError
from stopper.artifact import Artifact
from stopper.halting import HaltingRule
from stopper.manifest import HaltingSpec
from stopper.policy import StopPolicy


class HaltingPolicy:
    """Halt at the first denoising step whose score exceeds the level for the request's alpha.

    Parameters
    ----------
    spec
        The shape, and the setting it holds for.
    alpha
        Of a request that names none.
    levels
        The exact levels of any alpha; None where the artifact has one at `alpha` alone.
    level
        At `alpha`.

    """

    def __init__(
        self, spec: HaltingSpec, alpha: float, level: float, levels: StopPolicy | None
    ) -> None:
        self.spec = spec
        self.rule: HaltingRule = spec.rule()
        self.alpha = alpha
        self._level = np.float32(level)
        self._levels = levels

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> HaltingPolicy:
        """Take the policy out of a calibrated artifact.

        Raises
        ------
        ArtifactError
            If the artifact is none of a diffusion LM, or is not calibrated.

        """
        spec, record = artifact.manifest.halting, artifact.manifest.calibration
        if spec is None:
            raise ArtifactError(
                "the artifact has no halting rule: it is for a reasoning model, not for a "
                "diffusion LM. Make one with `stopper diffusion calibrate`"
            )
        if record is None:
            raise ArtifactError("the artifact is not calibrated. Run `stopper diffusion calibrate`")
        any_alpha = None if record.method == "mapie" else StopPolicy.from_artifact(artifact)
        return cls(spec, record.alpha, record.threshold, any_alpha)

    def level(self, alpha: float | None = None) -> np.float32:
        """Return what a score must exceed, float32; +inf (never halt) where traces are too few.

        Parameters
        ----------
        alpha
            The request's tolerated share of bad halts; None for the artifact's own.

        Raises
        ------
        InputError
            If it is not strictly between 0 and 1, or the artifact has no level for it.

        """
        if alpha is None or alpha == self.alpha:
            return self._level
        check_alpha(alpha)
        if self._levels is None:
            raise InputError(
                f"alpha {alpha:g}: the artifact was calibrated by method mapie for alpha "
                f"{self.alpha:g} alone. Ask for that one, or calibrate by ltt or crc, which answer "
                "any"
            )
        return self._levels.threshold(alpha)

    def require(self, alpha: float) -> None:
        """Refuse an alpha that the calibration cannot carry.

        Raises
        ------
        TooFewTraces
            Saying how many more prompts it would need.
        InputError
            As :meth:`level`.

        """
        self.level(alpha)
        if self._levels is not None:
            known = self._levels
            require_units(len(known.worst_scores), known.method, alpha, known.confidence)

    def carries(self, alpha: float) -> bool:
        """Tell whether :meth:`require` lets an alpha pass."""
        try:
            self.require(alpha)
        except InputError:
            return False
        return True
