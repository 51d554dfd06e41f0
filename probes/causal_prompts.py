"""The Yes/No prompts of a causal language model about sentences of a document. Pure.

After EXIT (arXiv 2412.12559), in words of our own. A prompt is three runs of token ids:

    opening     what is to be judged, the question, the title
    document    the document, or as much of it around the sentence as there is room for
    closing     the sentence, the question once more, and the request for Yes or No

Opening and document come first and are the same for all sentences of a document, so that an engine
computes them once. The closing comes last and is never cut. Whatever question and documents say
is data: strings that would end a tag, or that a tokenizer reads as control tokens, are broken.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from probes.causal_wording import Wording, neutral
from probes.errors import InputError, UnsupportedError
from probes.sentences import Passage

LONGEST_PROMPT = 4096
"""Tokens, where nothing else is asked for and the model takes as many."""

SHARES = 8
"""Into so many steps the room for a document is divided, where it is longer than the room. Windows
begin and end on steps, so that neighbouring sentences have the same one and share its prefix."""


class Tokens(Protocol):
    """What is asked of a tokenizer; see `probes.causal_tokens.FastTokens`."""

    @property
    def identity(self) -> str:
        """SHA-256 of the tokenizer."""
        ...

    @property
    def start(self) -> tuple[int, ...]:
        """Ids that begin a text (BOS), if any."""
        ...

    @property
    def control(self) -> tuple[str, ...]:
        """Strings that it reads as control tokens."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the ids, none added."""
        ...

    def encode_with_ends(self, text: str) -> tuple[list[int], list[int]]:
        """Return the ids and the character at which each ends."""
        ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question to the model.

    Attributes
    ----------
    prefix
        Ids of opening and document; neighbouring sentences have equal ones.
    closing
        Ids of all that follows.

    """

    prefix: tuple[int, ...]
    closing: tuple[int, ...]

    @property
    def ids(self) -> list[int]:
        """All of it."""
        return [*self.prefix, *self.closing]


class PromptBuilder:
    """Makes prompts of at most so many tokens.

    Parameters
    ----------
    tokens
        The model's tokenizer.
    max_tokens
        Longest prompt.
    wording
        The words.

    Raises
    ------
    UnsupportedError
        If an answer is not one token of its own behind the prompt.

    """

    def __init__(self, tokens: Tokens, max_tokens: int, wording: Wording | None = None) -> None:
        self.wording = wording or Wording()
        self.max_tokens = max_tokens
        self.tokens = tokens
        self.yes, self.no = answer_ids(tokens, self.wording)
        self._reserved = (*self.wording.delimiters, *tokens.control)

    def prompts(self, query: str, passage: Passage) -> Iterator[Prompt | None]:
        """Build one prompt for each sentence, in order.

        Yields
        ------
        Prompt or None
            None where sentence and question alone are longer than `max_tokens`: such a sentence
            cannot be judged, and is not judged by a part of it.

        Raises
        ------
        InputError
            If the question alone is too long.

        """
        question = self._data(query)
        opening = self._opening(question, passage.title)
        shortest = len(opening) + len(self._closing(question, ""))
        if shortest > self.max_tokens:
            raise InputError(
                f"query: the question takes {shortest} of {self.max_tokens} tokens of the model; "
                "ask a shorter one, or serve the model with a longer context"
            )
        ids, ends = self.tokens.encode_with_ends(self._data(passage.text))
        free = self.max_tokens - len(opening)
        for (start, end), sentence in zip(passage.spans, passage.sentences, strict=True):
            closing = self._closing(question, self._data(sentence))
            if len(closing) > free:
                yield None
                continue
            first, last = window(len(ids), tokens_of(ends, start, end), free - len(closing), free)
            yield Prompt((*opening, *ids[first:last]), closing)

    def _opening(self, question: str, title: str) -> tuple[int, ...]:
        wording = self.wording
        ids, ends = self.tokens.encode_with_ends(self._data(title))
        longest = self.max_tokens // SHARES  # a title must not crowd out the document
        short = self._data(title)[: ends[longest - 1]] if len(ids) > longest > 0 else title
        filled = wording.opening.format(question=question, title=self._data(short))
        start = self.tokens.start if wording.starts else ()
        return (*start, *self.tokens.encode(wording.head + filled))

    def _closing(self, question: str, sentence: str) -> tuple[int, ...]:
        filled = self.wording.closing.format(question=question, sentence=sentence)
        return tuple(self.tokens.encode(filled + self.wording.tail))

    def _data(self, text: str) -> str:
        return neutral(text, self._reserved)


def tokens_of(ends: Sequence[int], start: int, end: int) -> tuple[int, int]:
    """Return the tokens in which characters ``start`` to ``end`` lie: first, and one past the last.

    Parameters
    ----------
    ends
        The character at which each token ends, never falling.

    """
    last = bisect_right(ends, end)  # several tokens may make up one character
    if last < len(ends) and (last == 0 or ends[last - 1] < end):
        last += 1
    return bisect_right(ends, start), last


def window(n: int, sentence: tuple[int, int], room: int, free: int) -> tuple[int, int]:
    """Choose the part of a document that is shown with a sentence.

    Parameters
    ----------
    n
        Tokens of the document.
    sentence
        The sentence's tokens, first and one past the last.
    room
        How many may be shown.
    free
        How many could be, were there no sentence; the same for all sentences of a document.

    Returns
    -------
    tuple of int
        First token and one past the last: all if there is room, else at most `room` of them with
        the sentence about in the middle, and all of it if there is room for it.

    Examples
    --------
    >>> window(100, (40, 50), 100, 120), window(1000, (500, 520), 90, 120)
    ((0, 100), (465, 555))

    """
    if n <= room:
        return 0, n
    step = max(1, free // SHARES)
    if room >= step + sentence[1] - sentence[0]:
        room -= room % step
    wanted = max(0, min((sentence[0] + sentence[1] - room) // 2, n - room))
    snapped = wanted - wanted % step
    first = snapped if snapped + room >= sentence[1] else min(wanted, sentence[0])
    return first, min(first + room, n)


def answer_ids(tokens: Tokens, wording: Wording) -> tuple[int, int]:
    """Return the ids of the two answers as they would follow the prompt.

    Behind white space an answer begins without one, elsewhere with one.

    Raises
    ------
    UnsupportedError
        If an answer is several tokens, merges with the prompt's end, or both are the same.

    """
    ending = wording.closing.format(question="?", sentence=".") + wording.tail
    before = tokens.encode(ending)
    found = []
    for answer in (wording.yes, wording.no):
        text = answer if ending[-1:].isspace() else " " + answer
        after = tokens.encode(ending + text)
        if after[:-1] != before:
            raise UnsupportedError(
                f"tokenizer: {text!r} behind {ending[-12:]!r} is not one token of its own; choose "
                "other answers or another ending in the wording, or another model"
            )
        found.append(after[-1])
    if found[0] == found[1]:
        raise UnsupportedError(
            f"tokenizer: {wording.yes!r} and {wording.no!r} are the same token; choose another "
            "model, or other answers"
        )
    return found[0], found[1]
