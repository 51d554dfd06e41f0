"""Fits the head of a sentence filter to questions with answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from calibration.mixing import Mix
from calibration.questions import QuestionSet
from probes.encoder_body import EncoderBody
from probes.fit import FitResult, fit_probe
from probes.network import Probe
from probes.sentence_encoder import HEAD_SPEC, Reader
from stopper import __version__
from stopper.artifact import Artifact, Manifest
from stopper.errors import InputError
from stopper.libraries import versions_used
from stopper.manifest import ContextSpec
from stopper.relevance.reading import Library, Row
from stopper.relevance.splitting import FRACTIONS, TEST, TRAIN, articles, assigned, thinned

MIXES = (Mix(0, 0), Mix(2, 0), Mix(0, 4), Mix(2, 2), Mix(1, 8))
"""A head learns from questions with few and many, near and far distractors: fitted to one mix alone
it does worse on every other, and no better on its own."""

MOST_QUESTIONS = 5000


@dataclass(frozen=True)
class TrainingPlan:
    """What is asked.

    Attributes
    ----------
    fractions
        Shares of the articles: train, calibrate, test.
    seed
        Fixes every draw.
    most
        Questions to fit on at most.
    splitter
        See :func:`stopper.context.split`.
    mixes
        Distractors to fit with.

    """

    fractions: dict[str, float] = field(default_factory=lambda: dict(FRACTIONS))
    seed: int = 0
    most: int = MOST_QUESTIONS
    splitter: str = "spacy"
    mixes: tuple[Mix, ...] = MIXES


def train(
    questions: QuestionSet, sources: Sequence[str | Path], body: EncoderBody, plan: TrainingPlan
) -> Artifact:
    """Fit a head.

    Parameters
    ----------
    questions
        All that was read.
    sources
        The files, named in the artifact.
    body
        The encoder; it stays as it is.
    plan
        What is asked.

    Returns
    -------
    Artifact
        Not calibrated. It keeps the fingerprints of the articles it was fitted to and of those set
        aside for the test.

    Raises
    ------
    InputError
        If there are too few articles to fit on.

    """
    split = assigned(questions, plan.fractions, plan.seed)
    chosen = thinned(split[TRAIN], plan.most, plan.seed)
    if not chosen:
        raise InputError("no article fell to training; give more data, or another --seed")
    reader = Reader(body)
    library = Library(reader, questions, chosen, plan.splitter)
    given = chosen[0].given is not None  # documents that come with the data are not mixed
    mixes = plan.mixes[:1] if given else plan.mixes
    rows = [row for mix in mixes for row in library.rows(mix, plan.seed)]
    found = _fit(rows, plan.seed)
    head = found.probe
    if not isinstance(head, Probe):
        raise InputError("a sentence filter's head is linear")
    training: dict[str, JsonValue] = {
        "label": "needed",
        "held_out": dict(found.metrics),
        "fit": dict(found.chosen),
        "groups": {name: len(some) for name, some in split.items()},
        "sources": [Path(source).name for source in sources],
        "questions": len(chosen),
        "sentences": sum(len(row.needed) for row in rows),
        "mixes": ["as given"] if given else [[mix.hard, mix.random] for mix in mixes],
        "seed": plan.seed,
    }
    manifest = Manifest(
        created=datetime.now(UTC).replace(microsecond=0),
        stopper_version=__version__,
        probe=HEAD_SPEC,
        context=ContextSpec(
            encoder=body.name,
            encoder_sha256=body.sha256,
            tokenizer_sha256=body.tokenizer_sha256,
            features=reader.identity["features"],
            splitter=plan.splitter,
        ),
        training=training,
        libraries=versions_used(),
    )
    splits = {TRAIN: articles(questions, split[TRAIN]), TEST: articles(questions, split[TEST])}
    kept = {name: hashes for name, hashes in splits.items() if hashes.size}
    return Artifact(manifest=manifest, probe=head, splits=kept)


def _fit(rows: Sequence[Row], seed: int) -> FitResult:
    """Fit by cross-validation over articles; the held-out figures are of other articles."""
    tables = np.concatenate([row.features for row in rows])
    needed = np.concatenate([row.needed for row in rows])
    groups = np.concatenate([np.full(len(row.needed), row.group) for row in rows])
    return fit_probe(tables, needed, groups, HEAD_SPEC, seed=seed)
