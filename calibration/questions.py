"""Questions with the sentences they need, read from SQuAD-format and HotpotQA-format JSON.

SQuAD (Rajpurkar et al., arXiv 1606.05250; also XQuAD, SQuAD 2.0): a paragraph and answer spans in
it. HotpotQA (Yang et al., arXiv 1809.09600): ten paragraphs, already split, and the sentences that
support the answer. Questions without an answer need no sentence and are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from probes.errors import InputError
from probes.sentences import Span
from probes.validation import explain, read_json

T = TypeVar("T")

FORMATS = ("squad", "hotpotqa")


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A text that a question may be answered from.

    Attributes
    ----------
    title
        Of its article.
    text
        The whole.
    sentences
        Where the data itself splits it; None where it does not.

    """

    title: str
    text: str
    sentences: tuple[Span, ...] | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and what it needs.

    Attributes
    ----------
    id
        As in the file; fixes the draw of its distractors.
    text
        The question itself.
    needed
        Per paragraph (its index), the character spans that a needed sentence overlaps.
    given
        Paragraphs that the data presents together; None where it presents one alone.

    """

    id: str
    text: str
    needed: tuple[tuple[int, tuple[Span, ...]], ...]
    given: tuple[int, ...] | None = None


@dataclass(frozen=True)
class QuestionSet:
    """Paragraphs and the questions on them.

    Attributes
    ----------
    paragraphs
        Each once, however many files have it.
    questions
        Each once, likewise; all need something.
    left_out
        Questions that need nothing (no answer in their paragraph).

    """

    paragraphs: tuple[Paragraph, ...]
    questions: tuple[Question, ...]
    left_out: int

    def titles(self, question: Question) -> list[str]:
        """Return the titles of the articles that hold what a question needs."""
        return sorted({self.paragraphs[index].title for index, _ in question.needed})


class _Answer(BaseModel):
    text: str
    answer_start: int


class _Asked(BaseModel):
    id: str
    question: str
    answers: list[_Answer]


class _SquadParagraph(BaseModel):
    context: str
    qas: list[_Asked]


class _Article(BaseModel):
    title: str
    paragraphs: list[_SquadParagraph]


class _Squad(BaseModel):
    data: list[_Article]


class _Hotpot(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    id: Annotated[str, Field(alias="_id")]
    question: str
    supporting_facts: list[tuple[str, int]]
    context: list[tuple[str, list[str]]]


_SQUAD, _HOTPOT = TypeAdapter(_Squad), TypeAdapter(list[_Hotpot])


def read_questions(paths: Iterable[str | Path], form: str) -> QuestionSet:
    """Read files and put them together.

    Parameters
    ----------
    paths
        JSON files of one format.
    form
        One of ``FORMATS``.

    Raises
    ------
    InputError
        Naming the file and the field that is not what the format says, or when nothing is left.

    """
    if form not in FORMATS:
        raise InputError(f"format {form!r} is unknown; choose one of {', '.join(FORMATS)}")
    gathered = _Gathering()
    names = [Path(path) for path in paths]
    for path in names:
        (gathered.squad if form == "squad" else gathered.hotpot)(path, _json(path))
    found = gathered.finished()
    if not found.questions:
        listed = ", ".join(map(str, names)) or "no file"
        raise InputError(f"{listed}: no question with an answer in its text ({form} format)")
    return found


class _Gathering:
    """Paragraphs and questions by what they say, so that none is there twice."""

    def __init__(self) -> None:
        self.paragraphs: dict[Paragraph, int] = {}
        self.questions: dict[tuple[str, tuple[int, ...]], Question] = {}
        self.left_out = 0

    def squad(self, path: Path, data: object) -> None:
        for article in _parsed(_SQUAD, path, data, "squad").data:
            for piece in article.paragraphs:
                index = self._index(Paragraph(article.title, piece.context))
                for asked in piece.qas:
                    spans = tuple(_span(path, asked, piece.context, one) for one in asked.answers)
                    self._add(asked.id, asked.question, {index: spans} if spans else {}, None)

    def hotpot(self, path: Path, data: object) -> None:
        for asked in _parsed(_HOTPOT, path, data, "hotpotqa"):
            places, needed = {}, dict[int, tuple[Span, ...]]()
            for title, sentences in asked.context:
                spans, at = [], 0
                for sentence in sentences:
                    left = len(sentence) - len(sentence.lstrip())
                    spans.append((at + left, at + max(left, len(sentence.rstrip()))))
                    at += len(sentence)
                places[title] = self._index(Paragraph(title, "".join(sentences), tuple(spans)))
                # A few facts of the published files point behind the end of their paragraph.
                facts = [at for name, at in asked.supporting_facts if name == title]
                hit = tuple(spans[at] for at in facts if 0 <= at < len(spans))
                if hit:
                    needed[places[title]] = hit
            self._add(asked.id, asked.question, needed, tuple(places.values()))

    def finished(self) -> QuestionSet:
        return QuestionSet(tuple(self.paragraphs), tuple(self.questions.values()), self.left_out)

    def _index(self, paragraph: Paragraph) -> int:
        return self.paragraphs.setdefault(paragraph, len(self.paragraphs))

    def _add(
        self,
        name: str,
        text: str,
        needed: dict[int, tuple[Span, ...]],
        given: tuple[int, ...] | None,
    ) -> None:
        if not needed or not text.strip():
            self.left_out += 1
            return
        key = (text, given or tuple(needed))
        before = self.questions.get(key)
        if before is not None:  # the same question in two files: all its answers count
            name = before.id
            for index, spans in before.needed:
                needed[index] = tuple(dict.fromkeys((*spans, *needed.get(index, ()))))
        self.questions[key] = Question(name, text, tuple(needed.items()), given)


def components(questions: QuestionSet, chosen: Sequence[Question]) -> list[str]:
    """Name for each question the knot of articles that it must be split with.

    Questions that need a common article belong together; so do those that a chain of such articles
    joins. The name is the first of the titles.
    """
    parent: dict[str, str] = {}

    def root(title: str) -> str:
        while parent.setdefault(title, title) != title:
            parent[title] = parent[parent[title]]
            title = parent[title]
        return title

    for question in chosen:
        first, *others = questions.titles(question)
        for other in others:
            low, high = sorted((root(first), root(other)))
            parent[high] = low
    return [root(questions.titles(question)[0]) for question in chosen]


def _json(path: Path) -> object:
    try:
        return read_json(path.read_bytes())
    except OSError as problem:
        raise InputError(f"{path}: {problem.strerror or problem}") from None
    except ValueError as problem:
        raise InputError(f"{path}: not JSON ({problem})") from None


def _parsed(kind: TypeAdapter[T], path: Path, data: object, form: str) -> T:
    try:
        return kind.validate_python(data)
    except ValidationError as problem:
        first = explain(problem).split("; ")[0]
        raise InputError(
            f"{path}: not {form} format ({first}). Name its format by --format"
        ) from None


def _span(path: Path, asked: _Asked, context: str, answer: _Answer) -> Span:
    start, end = answer.answer_start, answer.answer_start + len(answer.text)
    if not answer.text or start < 0 or context[start:end] != answer.text:
        raise InputError(
            f"{path}: question {asked.id!r}: its answer {answer.text[:40]!r} is not at character "
            f"{start} of its paragraph"
        )
    return start, end
