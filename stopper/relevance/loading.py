"""From an artifact to a filter that can be used: encoder, head, threshold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from calibration.dropping import find_threshold
from calibration.hierarchical import GROUPS
from calibration.risk import DEFAULT_CONFIDENCE, check_alpha
from probes.encoder_body import EncoderBody
from probes.network import Probe
from probes.sentence_encoder import SentenceEncoder
from stopper.artifact import Artifact
from stopper.errors import ArtifactError
from stopper.manifest import CalibrationRecord, ContextSpec

DEFAULT = Path(__file__).resolve().parent / "weights"
"""The artifact that comes with the package; its card is the README.md in it."""

_AGAIN = "Make it again with `stopper context train` and `stopper context calibrate`"


@dataclass(frozen=True)
class ContextFilter:
    """A sentence filter with its promise.

    Attributes
    ----------
    scorer
        A :class:`probes.sentences.SentenceScorer`.
    spec
        What the scores come from; its splitter is the one to split with.
    record
        The calibration.
    artifact
        All of it.

    """

    scorer: SentenceEncoder
    spec: ContextSpec
    record: CalibrationRecord
    artifact: Artifact

    def threshold(self, alpha: float | None = None) -> float:
        """Return the threshold of an alpha; a sentence is dropped iff -logit is above it.

        Parameters
        ----------
        alpha
            Share of queries that may lose a sentence they need; None takes the artifact's own.

        Returns
        -------
        float
            +inf (nothing is dropped) where too few queries were calibrated on for this alpha.

        """
        if alpha is None:
            return self.record.threshold
        return threshold_of(self.artifact, alpha)


def load(folder: str | Path | None = None, encoder: str | Path | None = None) -> ContextFilter:
    """Load a calibrated sentence filter.

    Parameters
    ----------
    folder
        Its artifact; None takes the one that comes with the package.
    encoder
        Folder of the body; None takes the installed MiniLM.

    Raises
    ------
    ArtifactError
        If it is no calibrated sentence filter, expired, or of another encoder.
    UnsupportedError
        If the encoder's packages are missing.

    """
    artifact = Artifact.load(DEFAULT if folder is None else folder)
    spec, record = parts(artifact, folder), artifact.manifest.calibration
    if record is None:
        raise ArtifactError(f"{folder}: not calibrated. Run `stopper context calibrate {folder}`")
    scorer = scorer_of(artifact, EncoderBody(encoder), folder)
    return ContextFilter(scorer, spec, record, artifact)


def parts(artifact: Artifact, source: object) -> ContextSpec:
    """Return what an artifact's scores come from.

    Raises
    ------
    ArtifactError
        If it is no sentence filter.

    """
    if artifact.manifest.context is None:
        raise ArtifactError(f"{source}: not a sentence filter. {_AGAIN}")
    return artifact.manifest.context


def scorer_of(artifact: Artifact, body: EncoderBody, source: object) -> SentenceEncoder:
    """Put an artifact's head on a body.

    Raises
    ------
    ArtifactError
        If the head was trained on another body or other features.

    """
    spec = parts(artifact, source)
    if not isinstance(artifact.probe, Probe):
        raise ArtifactError(f"{source}: its head is no plain probe. {_AGAIN}")
    scorer = SentenceEncoder(body, artifact.probe)
    differences = spec.mismatches(scorer.identity)
    if differences:
        raise ArtifactError(
            f"{source}: its promise is for another encoder ({'; '.join(differences)}). Name the "
            f"folder of {spec.encoder} by --encoder, or make it again with `stopper context train`"
        )
    return scorer


def threshold_of(artifact: Artifact, alpha: float) -> float:
    """Answer an alpha from an artifact's stored scores.

    Raises
    ------
    ArtifactError
        If it is not calibrated.

    """
    check_alpha(alpha)
    record = artifact.manifest.calibration
    if record is None or artifact.worst_scores is None:
        raise ArtifactError("not calibrated. Run `stopper context calibrate` on it")
    confidence = record.confidence or DEFAULT_CONFIDENCE
    groups = artifact.calibration_tensors.get(GROUPS)
    return find_threshold(artifact.worst_scores, groups, alpha, record.method, confidence)
