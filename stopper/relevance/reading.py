"""Questions become tables of features: each text is encoded once, whatever it is mixed with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from calibration.mixing import Mix, Mixer
from calibration.questions import Paragraph, Question, QuestionSet, components
from probes.network import Probe
from probes.sentence_encoder import Reader
from probes.sentence_features import FloatArray, PassageView, QueryView, features
from probes.sentences import Passage
from stopper.context import split

_AT_A_TIME = 64
Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Row:
    """One question with its documents.

    Attributes
    ----------
    features
        float32 [n_sentences, n_features].
    needed
        bool [n_sentences].
    tokens
        int64 [n_sentences], pieces of the encoder.
    group
        The article, or knot of articles, it is split by.

    """

    features: FloatArray
    needed: npt.NDArray[np.bool_]
    tokens: npt.NDArray[np.int64]
    group: str


class Library:
    """The texts of some questions, encoded.

    Parameters
    ----------
    reader
        The encoder.
    questions
        All that was read.
    chosen
        Those to work with; the other questions' paragraphs are not touched.
    splitter
        See :func:`stopper.context.split`.

    """

    def __init__(
        self,
        reader: Reader,
        questions: QuestionSet,
        chosen: Sequence[Question],
        splitter: str = "spacy",
    ) -> None:
        self.chosen = list(chosen)
        self._mixer = Mixer(questions, self.chosen)
        self._groups = components(questions, self.chosen)
        places = [self._mixer.reach(question) for question in self.chosen]
        wanted = sorted({index for found in places for index in found})
        passages = {
            index: passage_of(questions.paragraphs[index], splitter)
            for index in tqdm(wanted, desc="split", unit="paragraph", disable=None)
        }
        self._spans = {index: passage.spans for index, passage in passages.items()}
        self._views: dict[int, PassageView] = {}
        with tqdm(total=len(wanted), desc="encode", unit="paragraph", disable=None) as bar:
            for part in _parts(wanted):
                views = reader.passages([passages[index] for index in part])
                self._views.update(zip(part, views, strict=True))
                bar.update(len(part))
        self._queries: list[QueryView] = []
        with tqdm(total=len(self.chosen), desc="encode", unit="question", disable=None) as bar:
            for some in _parts(self.chosen):
                self._queries += reader.queries([question.text for question in some])
                bar.update(len(some))

    def rows(self, mix: Mix, seed: int = 0) -> list[Row]:
        """Return the table of each question whose documents hold a sentence it needs."""
        found = []
        pairs = zip(self.chosen, self._queries, self._groups, strict=True)
        name = f"measure, {mix.hard} hard and {mix.random} random distractors"
        for question, query, group in tqdm(
            pairs, total=len(self.chosen), desc=name, unit="question", disable=None
        ):
            documents = self._mixer.documents(question, mix, seed)
            views = [self._views[index] for index in documents]
            needed = np.concatenate([self._needed(question, index) for index in documents])
            if needed.any():
                table = np.concatenate(features(query, views))
                tokens = np.concatenate([np.diff(view.bounds) for view in views])
                found.append(Row(table, needed, tokens, group))
        return found

    def _needed(self, question: Question, index: int) -> npt.NDArray[np.bool_]:
        spans = dict(question.needed).get(index, ())
        return np.array(
            [any(a < end and start < b for start, end in spans) for a, b in self._spans[index]],
            dtype=np.bool_,
        )


def passage_of(paragraph: Paragraph, splitter: str) -> Passage:
    """Split a paragraph, unless its data has."""
    spans = paragraph.sentences
    found = tuple(split(paragraph.text, splitter)) if spans is None else spans
    return Passage(paragraph.title, paragraph.text, found)


def score(rows: Sequence[Row], head: Probe) -> list[FloatArray]:
    """Return each row's logits."""
    logits = head.score(np.concatenate([row.features for row in rows]))
    return list(np.split(logits, np.cumsum([len(row.needed) for row in rows])[:-1]))


def _parts(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), _AT_A_TIME):
        yield items[start : start + _AT_A_TIME]
