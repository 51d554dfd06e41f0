"""Finds the threshold of a sentence filter on articles that its head has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from calibration.dropping import (
    LOSS,
    ScoredQuery,
    dropping_promise,
    find_threshold,
    require_queries,
    worst_scores,
)
from calibration.hierarchical import GROUPS, METHOD
from calibration.mixing import DEFAULT_MIX, Mix
from calibration.questions import Question, QuestionSet, components
from calibration.risk import DEFAULT_CONFIDENCE, check_alpha
from probes.encoder_body import EncoderBody
from probes.sentence_encoder import SentenceEncoder
from stopper.artifact import Artifact, CalibrationRecord
from stopper.libraries import versions_used
from stopper.relevance.loading import parts, scorer_of
from stopper.relevance.reading import Library, score
from stopper.relevance.splitting import CALIBRATE, TEST, TRAIN, articles, choose, thinned

Method = Literal["ltt", "crc", "hcp"]


@dataclass(frozen=True)
class Terms:
    """What is asked.

    Attributes
    ----------
    alpha
        Share of queries that may lose a sentence they need.
    method, confidence
        See :mod:`calibration.risk`, and for "hcp" :mod:`calibration.hierarchical`.
    mix
        Distractors beside a question's own paragraphs.
    seed
        Fixes their draw.
    most
        Questions to use at most.

    """

    alpha: float
    method: Method = "hcp"
    confidence: float = DEFAULT_CONFIDENCE
    mix: Mix = DEFAULT_MIX
    seed: int = 0
    most: int = 20_000


def scored(
    questions: QuestionSet,
    chosen: list[Question],
    scorer: SentenceEncoder,
    splitter: str,
    mix: Mix,
    seed: int,
) -> list[ScoredQuery]:
    """Score questions with their documents."""
    rows = Library(scorer.reader, questions, chosen, splitter).rows(mix, seed)
    return [
        ScoredQuery(-logits, row.needed, row.tokens, row.group)
        for row, logits in zip(rows, score(rows, scorer.head), strict=True)
    ]


def calibrate(
    artifact: Artifact,
    questions: QuestionSet,
    body: EncoderBody,
    terms: Terms,
    source: str = "the artifact",
) -> tuple[Artifact, list[str]]:
    """Calibrate a sentence filter.

    Parameters
    ----------
    artifact
        Trained.
    questions
        Those on articles that the head was fitted to, or that are set aside for the test, are not
        used.
    body
        The encoder that the head was trained on.
    terms
        What is asked.
    source
        What to call the artifact in errors.

    Returns
    -------
    Artifact, list of str
        With threshold, promise and the scores that answer any other alpha; remarks for a person.

    Raises
    ------
    InputError
        If no question is left.
    TooFewTraces
        If the promise needs more queries; says how many.

    """
    check_alpha(terms.alpha)
    spec = parts(artifact, source)
    scorer = scorer_of(artifact, body, source)
    chosen, met = choose(questions, artifact, (TRAIN, TEST), "--data")
    chosen = thinned(chosen, terms.most, terms.seed)
    among = len(set(components(questions, chosen)))
    require_queries(len(chosen), terms.method, terms.alpha, terms.confidence, among)
    queries = scored(questions, chosen, scorer, spec.splitter, terms.mix, terms.seed)
    names, places = np.unique([query.group for query in queries], return_inverse=True)
    require_queries(len(queries), terms.method, terms.alpha, terms.confidence, len(names))
    worst = worst_scores(queries)
    order = np.argsort(worst, kind="stable")
    worst, places = worst[order], places[order].astype(np.int64)
    hierarchical = terms.method == METHOD
    counted = len(names) if hierarchical else len(queries)
    record = CalibrationRecord(
        method=terms.method,
        loss=LOSS,
        alpha=terms.alpha,
        confidence=terms.confidence if terms.method == "ltt" else None,
        n_units=len(queries),
        n_traces=len(queries),
        n_cues=sum(len(query.drop) for query in queries),
        threshold=find_threshold(worst, places, terms.alpha, terms.method, terms.confidence),
        promise=dropping_promise(terms.alpha, terms.method, terms.confidence, counted),
    )
    notes = [f"set aside {count} questions of the split '{name}'" for name, count in met.items()]
    given = chosen[0].given is not None
    profile = "as given" if given else [terms.mix.hard, terms.mix.random]
    training = {**artifact.manifest.training, "calibrated_on": {
        "articles": len(names), "mix": profile, "seed": terms.seed,
    }}  # fmt: skip
    changes = {"calibration": record, "training": training, "libraries": versions_used()}
    made = Artifact(
        manifest=artifact.manifest.model_copy(update=changes),
        probe=artifact.probe,
        worst_scores=worst,
        calibration_tensors={GROUPS: places} if hierarchical else {},
        splits={**artifact.splits, CALIBRATE: articles(questions, chosen)},
    )
    return made, notes
