"""Sentence relevance by an embedded encoder: a document is read once, its sentences in context.

A document and its title pass through the encoder together (one window, or several that overlap,
for long ones); a sentence is the stretch of vectors that belongs to it ("late chunking", Günther
et al., arXiv 2409.04701), and its words are matched with the question's one by one (ColBERT's late
interaction, Khattab and Zaharia, arXiv 2004.12832). probes/sentence_features.py makes numbers of
it, and a linear head (:class:`probes.network.Probe`) one logit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from probes.encoder_body import LONGEST, EncoderBody, FloatArray, Pieces
from probes.errors import InputError
from probes.network import Probe
from probes.sentence_features import (
    FEATURES,
    VERSION,
    PassageView,
    QueryView,
    features,
    unit,
)
from probes.sentences import Logits, Passage
from probes.spec import ProbeSpec

MOST_QUERY, MOST_TITLE, MOST_SENTENCE, OVERLAP = 254, 48, 384, 64
"""Pieces that are read of a question, a title, a sentence (of a longer one the beginning), and of
what precedes a window that does not begin its document."""

ASKING = ("who", "whom", "whose", "when", "where", "which", "what", "why", "how", "many", "much")

HEAD_SPEC = ProbeSpec(kind="linear", layers=(1,), hidden_size=len(FEATURES))
"""Shape of the head: one "layer", the features."""


class SentenceEncoder:
    """A :class:`probes.sentences.SentenceScorer`.

    Parameters
    ----------
    body
        Reads texts.
    head
        Reads ``FEATURES``, gives the logit.

    Raises
    ------
    InputError
        If the head is another feature set's.

    """

    def __init__(self, body: EncoderBody, head: Probe) -> None:
        if head.spec != HEAD_SPEC:
            raise InputError(
                f"the head reads {head.spec.input_dim} numbers ({head.spec.kind}), feature set "
                f"{VERSION} has {len(FEATURES)} and a linear head; train it again with "
                "`stopper context train`"
            )
        self.reader = Reader(body)
        self.head = head

    @property
    def identity(self) -> dict[str, str]:
        """Which body and which features the scores come from."""
        return self.reader.identity

    def score(self, query: str, passages: Sequence[Passage]) -> list[Logits]:
        """Score every sentence, in relation to the others of these passages.

        Raises
        ------
        InputError
            If the question holds nothing that can be read.

        """
        asked, views = self.reader.read(query, passages)
        return [self.head.score(table) for table in features(asked, views)]


class Reader:
    """Turns texts into what the features read.

    Parameters
    ----------
    body
        The encoder.

    """

    def __init__(self, body: EncoderBody) -> None:
        self.body = body
        asking = body.pieces(ASKING, 1)
        self._asking = np.unique(np.concatenate(asking))

    @property
    def identity(self) -> dict[str, str]:
        """Which body and which features the scores come from."""
        return {
            "encoder_sha256": self.body.sha256,
            "tokenizer_sha256": self.body.tokenizer_sha256,
            "features": VERSION,
        }

    def read(self, query: str, passages: Sequence[Passage]) -> tuple[QueryView, list[PassageView]]:
        """Read a question and documents: one tokenisation, one pass through the encoder.

        Raises
        ------
        InputError
            If the question holds nothing that can be read.

        """
        question = self._question_pieces([query])
        plans = self._plan(passages)
        windows = [window for plan in plans for window in plan.windows]
        vectors = iter(self.body.encode([*question, *(window.pieces for window in windows)]))
        asked = self._query_view(question[0], next(vectors))
        return asked, [plan.view([next(vectors) for _ in plan.windows]) for plan in plans]

    def queries(self, queries: Sequence[str]) -> list[QueryView]:
        """Read questions; what is no punctuation weighs the same."""
        pieces = self._question_pieces(queries)
        pairs = zip(pieces, self.body.encode(pieces), strict=True)
        return [self._query_view(*pair) for pair in pairs]

    def passages(self, passages: Sequence[Passage]) -> list[PassageView]:
        """Read documents."""
        plans = self._plan(passages)
        vectors = iter(self.body.encode([w.pieces for plan in plans for w in plan.windows]))
        return [plan.view([next(vectors) for _ in plan.windows]) for plan in plans]

    def _question_pieces(self, queries: Sequence[str]) -> list[Pieces]:
        pieces = self.body.pieces(queries, MOST_QUERY)
        for query, found in zip(queries, pieces, strict=True):
            if not len(found):
                raise InputError(
                    f"query {query[:40]!r} holds nothing that can be read; ask in words"
                )
        return pieces

    def _query_view(self, pieces: Pieces, vectors: FloatArray) -> QueryView:
        inner = unit(vectors[1:-1])
        words = self.body.words[pieces]
        weights = words if words.any() else np.ones(len(pieces), np.bool_)
        return QueryView(
            vector=unit(vectors.mean(axis=0)),
            pieces=pieces,
            vectors=inner,
            weights=(weights / weights.sum()).astype(np.float32),
            asking=np.isin(pieces, self._asking),
        )

    def _plan(self, passages: Sequence[Passage]) -> list[_Plan]:
        sentences = self.body.pieces([s for one in passages for s in one.sentences], MOST_SENTENCE)
        titles = self.body.pieces([title_text(one.title) for one in passages], MOST_TITLE)
        plans, at = [], 0
        for passage, title in zip(passages, titles, strict=True):
            count = len(passage.spans)
            plans.append(_Plan(title, sentences[at : at + count]))
            at += count
        return plans


class _Plan:
    """How one document is laid out in windows, and put together again."""

    def __init__(self, title: Pieces, sentences: Sequence[Pieces]) -> None:
        self.title = title
        empty: list[Pieces] = [np.empty(0, np.int64)]
        self.pieces = np.concatenate([*empty, *sentences])
        self.bounds = np.cumsum([0, *map(len, sentences)]).astype(np.int64)
        self.windows = list(_windows(title, self.pieces, self.bounds))

    def view(self, vectors: Sequence[FloatArray]) -> PassageView:
        """Put the windows' vectors together."""
        parts = [part[one.skip : -1] for one, part in zip(self.windows, vectors, strict=True)]
        inner = np.concatenate(parts)
        width = inner.shape[1]
        means = np.zeros((len(self.bounds) - 1, width), np.float32)
        filled = np.flatnonzero(np.diff(self.bounds) > 0)
        if filled.size:
            means[filled] = np.add.reduceat(inner, self.bounds[filled], axis=0)
        # The whole document with its title and marks, as the body's own pooling would take it.
        whole = np.concatenate([vectors[0][: self.windows[0].skip], inner, vectors[-1][-1:]])
        return PassageView(
            title=self.title,
            pieces=self.pieces,
            vectors=unit(inner),
            bounds=self.bounds,
            means=unit(means),
            mean=unit(whole.mean(axis=0)),
        )


class _Window:
    """A stretch of a document as it goes through the encoder: title, what precedes, sentences.

    Attributes
    ----------
    pieces
        int64, without the encoder's marks.
    skip
        Vectors, the first mark's among them, before those of the window's own sentences.

    """

    __slots__ = ("pieces", "skip")

    def __init__(self, pieces: Pieces, skip: int) -> None:
        self.pieces = pieces
        self.skip = skip


def _windows(title: Pieces, pieces: Pieces, bounds: npt.NDArray[np.int64]) -> Iterator[_Window]:
    """Lay whole sentences out in windows; each piece is one window's own."""
    room = LONGEST - 2 - len(title)
    first, last = 0, len(bounds) - 1
    while True:
        start = int(bounds[first])
        before = min(start, OVERLAP)
        after = int(np.searchsorted(bounds, start - before + room, side="right")) - 1
        end = int(bounds[after])
        own = np.concatenate([title, pieces[start - before : end]])
        yield _Window(own, 1 + len(title) + before)
        if after >= last:
            return
        first = after


def title_text(title: str) -> str:
    """Give a title as it is read: as a sentence of its own."""
    plain = title.replace("_", " ").strip()
    return f"{plain}." if plain else ""
