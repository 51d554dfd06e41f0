"""What the rules need to know of a tokenizer: the text of a token, and where a sentence ends."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

from stopper.cue_pieces import token_pieces

_ENDS = re.compile(r"[.!?][\"')\]}]*\s*$|\n")


class Vocabulary:
    """Token texts, read once."""

    def __init__(self, tokenizer: Any) -> None:
        self._pieces = token_pieces(tokenizer)

    def text(self, token: int) -> str:
        """Return what a token adds to the text; '' for control tokens and unknown ids."""
        piece = self._pieces[token] if 0 <= token < len(self._pieces) else None
        return "" if piece is None else piece.decode("utf-8", errors="replace")

    @cached_property
    def sentence_ends(self) -> frozenset[int]:
        """Tokens after which a sentence or a line is over: ., !, ?, or a line break."""
        ids = range(len(self._pieces))
        return frozenset(token for token in ids if _ENDS.search(self.text(token)))

    def spelling(self, word: str) -> frozenset[int]:
        """Return all tokens that spell exactly this word, whatever its case and the signs around.

        Letters decide: " Wait", "wait" and "...wait" spell "wait"; " await" does not.
        """
        ids = range(len(self._pieces))
        pattern = re.compile(rf"[\W\d_]*{re.escape(word)}[\W\d_]*", re.IGNORECASE)
        return frozenset(token for token in ids if pattern.fullmatch(self.text(token)))

    def beginning(self, word: str) -> frozenset[int]:
        """Return the tokens with which a word begins that the tokenizer may split.

        At least four letters: " Altern" begins "alternatively", "H" begins too much to be taken for
        "hmm". None for a compound: "double" is a word, whatever follows it.
        """
        if not word.isalpha():
            return frozenset()
        ids = range(len(self._pieces))
        wanted = word.casefold()

        def begins(token: int) -> bool:
            letters = re.sub(r"[\W\d_]+", "", self.text(token)).casefold()
            return 4 <= len(letters) < len(wanted) and wanted.startswith(letters)

        return frozenset(filter(begins, ids))


class SentenceEnds:
    """Finds the ends of sentences in a stream; a run of ends (".", then a line break) is one."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._ends = vocabulary.sentence_ends
        self._before = True  # nothing has been said yet

    def ended(self, token: int) -> bool:
        """Take a token; tell whether a sentence ends with it."""
        now = token in self._ends
        first = now and not self._before
        self._before = now
        return first
