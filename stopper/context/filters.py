"""A scorer with its threshold, ready to be asked: from an artifact, or by shared words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from probes.sentences import SentenceScorer
from stopper.context.compression import compress
from stopper.context.documents import Compressed, Document
from stopper.context.limits import Deadline, Limits
from stopper.context.overlap import OverlapScorer
from stopper.errors import InputError, UnsupportedError

ScorerName = Literal["encoder", "overlap"]

OVERLAP_THRESHOLD = 1.0
"""Picked by hand: keeps sentences with more than about a quarter of the question's words."""


@dataclass(frozen=True)
class SentenceFilter:
    """Compresses by one scorer.

    Attributes
    ----------
    scorer
        Gives the logits.
    splitter
        That the threshold was found with.
    thresholds
        From an alpha (None: the default) to a threshold.
    artifact
        First 16 digits of the SHA-256 of its manifest; None without one.

    """

    scorer: SentenceScorer
    splitter: str
    thresholds: Callable[[float | None], float]
    artifact: str | None

    def threshold(self, threshold: float | None = None, alpha: float | None = None) -> float:
        """Return what applies where a caller names one, the other, or neither.

        Raises
        ------
        InputError
            If both are given, or there is none for this alpha.

        """
        if threshold is not None and alpha is not None:
            raise InputError("give threshold or alpha, not both")
        return self.thresholds(alpha) if threshold is None else threshold

    def compress(
        self,
        query: str,
        documents: Sequence[Document],
        threshold: float | None = None,
        alpha: float | None = None,
        floor: int = 0,
        *,
        limits: Limits | None = None,
        deadline: Deadline | None = None,
    ) -> Compressed:
        """Compress; see :func:`stopper.context.compress`."""
        level = self.threshold(threshold, alpha)
        return compress(
            query,
            documents,
            self.scorer,
            level,
            floor,
            splitter=self.splitter,
            limits=limits,
            deadline=deadline,
        )


def make_filter(
    scorer: ScorerName = "encoder",
    artifact: Path | None = None,
    *,
    alpha: float | None = None,
    threshold: float | None = None,
) -> SentenceFilter:
    """Return a filter.

    Parameters
    ----------
    scorer
        "encoder": calibrated. "overlap": by shared words, without any promise.
    artifact
        Of the encoder; None takes the one that comes with the package.
    alpha, threshold
        Where a caller names none; at most one of them. None takes the artifact's own.

    Raises
    ------
    InputError
        If they do not go together, or the artifact is none.
    UnsupportedError
        If a package is missing.

    """
    if threshold is not None and alpha is not None:
        raise InputError("give threshold or alpha, not both")
    if scorer == "overlap":
        if artifact is not None or alpha is not None:
            raise InputError(
                "the overlap scorer has no artifact and keeps no promise; give a threshold, or "
                "leave scorer out for the encoder"
            )
        return _overlap(OVERLAP_THRESHOLD if threshold is None else threshold)
    return _encoder(artifact, alpha, threshold)


def _overlap(default: float) -> SentenceFilter:
    def level(alpha: float | None) -> float:
        if alpha is not None:
            raise InputError("alpha: the overlap scorer keeps no promise; give a threshold")
        return default

    return SentenceFilter(OverlapScorer(), "spacy", level, None)


def _encoder(artifact: Path | None, alpha: float | None, threshold: float | None) -> SentenceFilter:
    try:
        from stopper.artifact import MANIFEST
        from stopper.relevance import DEFAULT, load

        found = load(artifact)
    except ModuleNotFoundError as missing:
        raise UnsupportedError(
            f"the sentence encoder needs {missing.name}; install it with "
            "`pip install 'stopper[rag]'`"
        ) from None
    if alpha is not None:
        found.threshold(alpha)  # refused now if it is wrong

    def level(asked: float | None) -> float:
        if asked is not None:
            return found.threshold(asked)
        return found.threshold(alpha) if threshold is None else threshold

    manifest = (DEFAULT if artifact is None else artifact) / MANIFEST
    version = hashlib.sha256(manifest.read_bytes()).hexdigest()[:16]
    return SentenceFilter(found.scorer, found.spec.splitter, level, version)
