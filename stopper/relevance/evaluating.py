"""Judges a sentence filter on articles that neither its head nor its threshold has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from calibration import hierarchical
from calibration.dropping import (
    Dropped,
    ScoredQuery,
    auroc,
    drop_at,
    drop_at_recall,
    interval,
)
from calibration.mixing import DEFAULT_MIX, Mix
from calibration.questions import QuestionSet
from calibration.redrawing import Repeats, least_queries, repeat
from calibration.risk import DEFAULT_CONFIDENCE
from probes.encoder_body import EncoderBody
from stopper.artifact import Artifact
from stopper.errors import ArtifactError, InputError, TooFewTraces
from stopper.relevance.calibrating import scored
from stopper.relevance.loading import parts, scorer_of, threshold_of
from stopper.relevance.splitting import CALIBRATE, TRAIN, choose, thinned, uses

RECALLS = (0.9, 0.95, 0.99)
_SHARE = 0.75
CURVE = (0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3)
"""Alphas of the picture."""


@dataclass(frozen=True)
class Judgement:
    """How a filter did.

    Attributes
    ----------
    alpha
        As asked for.
    at_alpha
        What the calibrated threshold did.
    at_recall
        What thresholds taken with the answers known would do, by recall.
    curve
        (alpha, what its calibrated threshold did), for every alpha that the artifact can carry.
    auroc
        All queries pooled; None where every sentence is needed.
    repeats
        Recalibrations on random halves; empty unless asked for.
    met
        Questions of the artifact's own articles, by split.
    insisted
        Whether they were used all the same.
    mix
        Distractors.

    """

    alpha: float
    at_alpha: Dropped
    at_recall: dict[float, Dropped]
    curve: list[tuple[float, Dropped]]
    auroc: float | None
    repeats: list[Repeats]
    met: dict[str, int]
    insisted: bool
    mix: Mix

    def to_json(self) -> dict[str, Any]:
        """Return the figures."""
        at = self.at_alpha
        low, high = interval(at.hurt, at.queries)
        return {
            "auroc": self.auroc,
            "n_queries": at.queries,
            "queries_with_a_loss": at.hurt,
            "recall": at.recall,
            "tokens_in": at.tokens_in,
            "tokens_out": at.tokens_out,
            "alpha": self.alpha,
            "risk": at.risk,
            "risk_interval": [low, high],
            # JSON has no literal for infinity; such a threshold drops nothing.
            "threshold": at.threshold if abs(at.threshold) != float("inf") else None,
            "sentences_in": at.sentences_in,
            "sentences_out": at.sentences_out,
            "needed": at.needed,
            "hard": self.mix.hard,
            "random": self.mix.random,
            "at_recall": {
                f"{recall:g}": {"tokens_out": one.tokens_out, "share": one.share}
                for recall, one in self.at_recall.items()
            },
            "set_aside": {} if self.insisted else self.met,
            "repeats": [one.to_json() for one in self.repeats],
        }


def evaluate(
    artifact: Artifact,
    questions: QuestionSet,
    body: EncoderBody,
    alpha: float,
    mix: Mix = DEFAULT_MIX,
    *,
    source: str = "the artifact",
    seed: int = 1,
    repeats: int = 0,
    include_used: bool = False,
    most: int = 20_000,
) -> Judgement:
    """Judge a calibrated filter.

    Parameters
    ----------
    artifact
        Calibrated.
    questions
        Those on articles that the head was fitted to or the threshold calibrated on are set aside.
    body
        The encoder.
    alpha
        Answered from the artifact's stored scores.
    mix, seed
        Distractors and their draw.
    source
        What to call the artifact in errors.
    repeats
        Recalibrate on so many random halves of the questions that the head was not fitted to (the
        calibration's among them, for they are held out from the head as well).
    include_used
        Judge on all questions (too good to be true).
    most
        Questions to use at most.

    Raises
    ------
    InputError
        If no question is left.
    TooFewTraces
        If the artifact was calibrated on too few queries for this alpha.

    """
    record = artifact.manifest.calibration
    if record is None:
        raise ArtifactError(f"{source}: not calibrated. Run `stopper context calibrate` on it")
    if repeats and include_used:
        raise InputError("--repeats calibrates on held-out articles; leave out --include-used")
    limit = threshold_of(artifact, alpha)
    if limit == float("inf"):
        raise TooFewTraces(
            f"{source}: calibrated on {record.n_units} queries, too few for alpha {alpha:g}. "
            "Calibrate on more, or ask for a larger alpha"
        )
    spec = parts(artifact, source)
    scorer = scorer_of(artifact, body, source)
    chosen, met = choose(questions, artifact, (TRAIN, CALIBRATE), "--data", include_used)
    chosen = thinned(chosen, most, seed)
    queries = scored(questions, chosen, scorer, spec.splitter, mix, seed)
    curve = [
        (other, drop_at(queries, at))
        for other in sorted({*CURVE, alpha})
        if (at := threshold_of(artifact, other)) != float("inf")
    ]
    again: list[Repeats] = []
    if repeats:
        pool = [
            question
            for question, split in zip(questions.questions, uses(questions, artifact), strict=True)
            if split == CALIBRATE
        ]
        more = scored(questions, pool, scorer, spec.splitter, mix, seed) if pool else []
        again = _repeats([*queries, *more], alpha, record.method, record.confidence, repeats)
    return Judgement(
        alpha=alpha,
        at_alpha=drop_at(queries, limit),
        at_recall={recall: drop_at_recall(queries, recall) for recall in RECALLS},
        curve=curve,
        auroc=auroc(queries),
        repeats=again,
        met=met,
        insisted=include_used,
        mix=mix,
    )


def _repeats(
    queries: Sequence[ScoredQuery],
    alpha: float,
    method: str,
    confidence: float | None,
    count: int,
) -> list[Repeats]:
    level = confidence or DEFAULT_CONFIDENCE
    articles = len({query.group for query in queries})
    if method == hierarchical.METHOD:
        # Articles are few: most of them calibrate. By query the plain promise is measured.
        hierarchical.require_groups(int(articles * _SHARE), alpha)
        by_article = repeat(queries, alpha, method, level, count, "article", share=_SHARE)
        method, more = "ltt", [by_article]
    else:
        more = []
    least = least_queries(method, alpha, level)
    if len(queries) < least:
        raise TooFewTraces(
            f"{len(queries)} queries are too few to calibrate on half of them at alpha {alpha:g} "
            f"by {method}: it needs {least}, so {least - len(queries)} more"
        )
    drawn = [repeat(queries, alpha, method, level, count), *more]
    if articles >= 8 and not more:
        drawn.append(repeat(queries, alpha, method, level, count, "article"))
    return drawn
