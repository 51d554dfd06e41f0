"""Which questions may be used for what: articles are kept apart across files and commands."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from calibration.questions import Question, QuestionSet, components
from calibration.splits import assign, group_hash, group_hashes
from stopper.artifact import Artifact
from stopper.errors import InputError

TRAIN, CALIBRATE, TEST = "train", "calibrate", "test"
FRACTIONS: Mapping[str, float] = {TRAIN: 0.3, CALIBRATE: 0.5, TEST: 0.2}
"""Shares of the articles, drawn by each one's own hash. A head of 51 numbers needs few, and a
promise for new articles many."""


def assigned(
    questions: QuestionSet, fractions: Mapping[str, float], seed: int
) -> dict[str, list[Question]]:
    """Split questions by the articles of what they need."""
    found: dict[str, list[Question]] = {name: [] for name in fractions}
    names = components(questions, questions.questions)
    for question, group in zip(questions.questions, names, strict=True):
        found[assign(group, fractions, seed)].append(question)
    return found


def articles(questions: QuestionSet, chosen: Sequence[Question]) -> npt.NDArray[np.uint64]:
    """Fingerprint the articles of what questions need, as artifacts keep them."""
    return group_hashes(title for question in chosen for title in questions.titles(question))


def uses(questions: QuestionSet, artifact: Artifact) -> list[str | None]:
    """Tell for each question which of an artifact's splits has one of its articles, if any."""
    kept = artifact.splits
    known = {name: set(kept[name].tolist()) for name in (TRAIN, CALIBRATE, TEST) if name in kept}
    found: list[str | None] = []
    for question in questions.questions:
        hashes = {group_hash(title) for title in questions.titles(question)}
        found.append(next((name for name, used in known.items() if hashes & used), None))
    return found


def choose(
    questions: QuestionSet,
    artifact: Artifact,
    avoid: Sequence[str],
    source: str,
    insist: bool = False,
) -> tuple[list[Question], dict[str, int]]:
    """Set aside the questions whose articles an artifact has used.

    Parameters
    ----------
    questions
        All that was read.
    artifact
        Keeps the fingerprints of its articles.
    avoid
        Names of its splits.
    source
        What to call the data in the error.
    insist
        Keep them all the same; they are counted still.

    Returns
    -------
    list, dict
        The questions to use, and how many of each split's were met.

    Raises
    ------
    InputError
        If none is left.

    """
    met: dict[str, int] = {}
    chosen = []
    for question, split in zip(questions.questions, uses(questions, artifact), strict=True):
        if split is not None and split in avoid:
            met[split] = met.get(split, 0) + 1
        if split not in avoid or insist:
            chosen.append(question)
    if not chosen:
        counts = ", ".join(f"{count} of {name}" for name, count in met.items())
        raise InputError(
            f"{source}: every question is on an article that the artifact has used ({counts}), "
            "and a figure is only honest on articles that nothing was fitted to. Give other data"
        )
    return chosen, met


def thinned(chosen: Sequence[Question], most: int, seed: int) -> list[Question]:
    """Draw at most so many questions, in their order."""
    if len(chosen) <= most:
        return list(chosen)
    draw = random.Random(f"thin:{seed}")  # noqa: S311
    places = sorted(draw.sample(range(len(chosen)), most))
    return [chosen[place] for place in places]
