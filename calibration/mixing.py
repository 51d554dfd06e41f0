"""Which documents a question comes with: its own, and distractors drawn by a seed.

Hard distractors are other paragraphs of the same article, random ones paragraphs of other articles,
as EXIT (arXiv 2412.12559) trains its classifier against both.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from calibration.questions import Question, QuestionSet
from probes.errors import InputError


@dataclass(frozen=True, slots=True)
class Mix:
    """How many distractors.

    Attributes
    ----------
    hard, random
        Beside the question's own paragraphs; fewer where there are not so many.

    """

    hard: int = 2
    random: int = 2

    def __post_init__(self) -> None:
        if self.hard < 0 or self.random < 0:
            raise InputError(
                f"{self.hard} hard and {self.random} random distractors: give 0 or more"
            )


DEFAULT_MIX = Mix()
"""Five paragraphs, as retrievers often give: the needed one, two of its article, two of others."""


class Mixer:
    """Draws the documents of questions.

    Parameters
    ----------
    questions
        All that was read.
    chosen
        Those of one split. Distractors come from their articles alone, so that no text of another
        split is seen.

    """

    def __init__(self, questions: QuestionSet, chosen: Sequence[Question]) -> None:
        self._titles = [paragraph.title for paragraph in questions.paragraphs]
        mine = {title for question in chosen for title in questions.titles(question)}
        self._pool = [index for index, title in enumerate(self._titles) if title in mine]
        self._article: dict[str, list[int]] = defaultdict(list)
        for index in self._pool:
            self._article[self._titles[index]].append(index)

    def reach(self, question: Question) -> set[int]:
        """Return the paragraphs that any draw may give a question."""
        if question.given is not None:
            return set(question.given)
        return {*self._pool, *(index for index, _ in question.needed)}

    def documents(self, question: Question, mix: Mix, seed: int = 0) -> list[int]:
        """Return the paragraphs that a question comes with, in the order of their presentation.

        What the data itself presents together (HotpotQA) is taken as it is, without a draw.
        """
        if question.given is not None:
            return list(question.given)
        own = [index for index, _ in question.needed]
        draw = random.Random(f"{seed}:{mix.hard}:{mix.random}:{question.id}")  # noqa: S311
        titles = {self._titles[index] for index in own}
        same = [i for title in sorted(titles) for i in self._article[title] if i not in own]
        found = [*own, *draw.sample(same, min(mix.hard, len(same)))]
        others = [index for index in self._pool if self._titles[index] not in titles]
        found += draw.sample(others, min(mix.random, len(others)))
        draw.shuffle(found)
        return found
