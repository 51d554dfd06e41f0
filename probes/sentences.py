"""The vocabulary of sentence relevance: what a scorer is given, and what every scorer gives.

A scorer says, for each sentence of some documents, how much it speaks for keeping the sentence that
a question is answered from it. Two kinds stand behind one interface: an embedded encoder
(probes/sentence_encoder.py) and the Yes/No of a causal language model (probes/causal_sentences.py,
after EXIT, arXiv 2412.12559).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from probes.errors import InputError

Logits = npt.NDArray[np.float32]
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Passage:
    """A document and where its sentences lie.

    Attributes
    ----------
    title
        May be empty.
    text
        The whole text; scorers read a sentence in its light.
    spans
        Start and end of each sentence as character offsets into ``text``, in order, not
        overlapping; what lies between them (line ends, spaces) belongs to no sentence.

    """

    title: str
    text: str
    spans: tuple[Span, ...]

    def __post_init__(self) -> None:
        """Refuse spans that do not lie in the text one after the other."""
        last = 0
        for index, (start, end) in enumerate(self.spans):
            if not last <= start <= end <= len(self.text):
                raise InputError(
                    f"sentence {index} of document {self.title!r} is {start}:{end}; sentences lie "
                    f"one after the other within the text's {len(self.text)} characters"
                )
            last = end

    @property
    def sentences(self) -> list[str]:
        """The texts of the sentences."""
        return [self.text[start:end] for start, end in self.spans]


@runtime_checkable
class SentenceScorer(Protocol):
    """Scores sentences for a question."""

    @property
    def identity(self) -> dict[str, str]:
        """What a threshold on these scores is tied to: names to versions or hashes."""
        ...

    def score(self, query: str, passages: Sequence[Passage]) -> list[Logits]:
        """Score every sentence.

        Parameters
        ----------
        query
            The question; not empty.
        passages
            The documents; read as data, whatever they say.

        Returns
        -------
        list of float32 [n_sentences]
            One array per passage: the logit that a sentence is needed, larger for more needed,
            always finite. A keep threshold is set on it.

        """
        ...


def passage_of(title: str, sentences: Sequence[str], separator: str = " ") -> Passage:
    """Build a passage from its sentences.

    Examples
    --------
    >>> passage_of("T", ["One.", "Two."]).spans
    ((0, 4), (5, 9))

    """
    spans, at = [], 0
    for sentence in sentences:
        spans.append((at, at + len(sentence)))
        at += len(sentence) + len(separator)
    return Passage(title, separator.join(sentences), tuple(spans))
