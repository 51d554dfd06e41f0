"""What goes into a compression and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Reason = Literal["compressed", "all_kept", "none_kept", "empty_query", "no_sentences"]
"""Why a compression is what it is; a closed set, fit for a metric's label.

compressed: sentences were dropped. all_kept: none scored low enough. none_kept: every sentence was
dropped, and the result is empty. empty_query: nothing is dropped, for nothing says what is needed.
no_sentences: there are no documents, or only empty ones.
"""


@dataclass(frozen=True, slots=True)
class Document:
    """A retrieved text. It is data: nothing it says is followed.

    Attributes
    ----------
    title
        May be empty.
    text
        Any characters, also such as UTF-8 cannot carry.
    id
        Yours; comes back with the result.

    """

    title: str
    text: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Sentence:
    """Where a sentence lies.

    Attributes
    ----------
    document
        Index into the documents.
    start, end
        Characters of that document's text (Python's: code points), `end` excluded.

    """

    document: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Kept(Sentence):
    """A sentence that was kept.

    Attributes
    ----------
    score
        Logit of relevance; NaN where it was not scored.

    """

    score: float


@dataclass(frozen=True, slots=True)
class Compressed:
    """The outcome for one query.

    Attributes
    ----------
    documents
        What is left of each document's text, in their order; empty where nothing is.
    kept
        The sentences that were kept, by document and place.
    tokens_in, tokens_out
        Estimates by `stopper.context.estimate_tokens`, or counts by the counter that was given.
    sentences
        Every sentence's place, kept or not, by document and place; those of a duplicate are its
        original's.
    scores
        float32 [n_sentences], logits; NaN where they were not scored.
    reason
        See `Reason`.
    duplicates
        Index of a document that repeats an earlier one: the earlier one's. Its text is dropped.
    threshold
        A sentence was dropped iff float32(-score) > float32(threshold).

    """

    documents: list[str]
    kept: list[Kept]
    tokens_in: int
    tokens_out: int
    sentences: list[Sentence]
    scores: npt.NDArray[np.float32]
    reason: Reason
    duplicates: dict[int, int]
    threshold: float

    @property
    def text(self) -> str:
        """All that is left, documents parted by a blank line."""
        return "\n\n".join(text for text in self.documents if text.strip())
