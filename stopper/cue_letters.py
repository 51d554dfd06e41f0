"""Cue words as a small automaton over letters, with exact word boundaries.

A token's text is first *spelled* in a small alphabet: the letters of the cue words, blank, newline,
and three classes for everything else (``W`` word character, ``O`` other, ``M`` mark). The
automaton reads that alphabet; `lift` runs it over whole tokens from all of its states at once.

Boundaries follow the regular expression ``\\b``, with one correction: characters of scripts that
are written without spaces (Han, kana, Thai, ...) are no word characters, so that a cue in such a
script is found in the middle of a sentence. Marks (accents, variation selectors) and the tail bytes
of a character split over tokens continue whatever stands before them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BLANK, NEWLINE, WORD, OTHER, MARK = " ", "\n", "W", "O", "M"  # cue letters are lower case: no clash
END = ""
NEUTRAL = OTHER
_CLASSES = (BLANK, NEWLINE, WORD, OTHER, MARK)
_BYTE = 0xE000  # private-use code points stand for single bytes of characters split over tokens
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x9FFF),  # kana, Han
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
# First bytes of split characters that are mostly no word characters: Latin-1 signs, punctuation
# and symbols, Han and kana, full-width forms, emoji.
_OTHER_LEADS = frozenset([0xC2, 0xE2, *range(0xE3, 0xEA), 0xEF, 0xF0])
# Runs that the automaton cannot tell from their first one or two members.
_RUNS = re.compile(r"(W)W+|(O)O+|( ) +|(M)M+|(\n\n)\n+")


def is_word(letter: str) -> bool:
    """Tell whether a boundary is needed between this character and a neighbouring letter."""
    if any(low <= ord(letter) <= high for low, high in _UNSPACED):
        return False
    return letter.isalnum() or letter == "_" or unicodedata.category(letter).startswith("M")


def fold(letter: str) -> str:
    """Return the lower-case form where that is one character, else the character itself."""
    lower = letter.lower()
    return lower if len(lower) == 1 else letter


class _State(NamedTuple):
    after_word: bool  # the text so far ends in a word character
    open: frozenset[tuple[int, int, bytes]]  # (word, letters matched, bytes of the next letter)
    lines: int  # 0 in a line, 1 after its newline, 2 in a run of blank lines already told


_START = _State(after_word=False, open=frozenset(), lines=2)


class LetterAutomaton:
    """Reads spelled text; knows which cue is complete at which letter.

    Parameters
    ----------
    words
        Cue words or phrases, lower case, single spaces between the words of a phrase.
    paragraph
        Also report the newline that completes a blank line; its label is ``len(words) + 1``.

    Attributes
    ----------
    following : int32[n_states, n_symbols]
    complete : int8[n_states, n_symbols]
        Label (1-based) of the cue that the symbol completes, 0 for none; the longest cue wins.
    glues : bool[n_symbols, n_labels + 1]
        The symbol right after the cue shows that it was only the beginning of a longer word.
    drawls : bool[n_symbols, n_labels + 1]
        The symbol draws the cue's doubled last letter out ("hmmmm") and is part of it.

    """

    def __init__(self, words: tuple[str, ...], paragraph: bool) -> None:
        self._words = words
        self._paragraph = paragraph
        letters = sorted({letter for word in words for letter in word} - {" "})
        self._encodings = {
            letter: {form.encode() for form in (letter, letter.upper()) if len(form) == 1}
            for letter in letters
            if not letter.isascii()
        }
        split = {byte for forms in self._encodings.values() for byte in b"".join(forms)}
        self._spelling = _Spelling(letters, split)
        symbols = [*_CLASSES, *letters, *(chr(_BYTE + byte) for byte in sorted(split))]
        self._index = {symbol: rank for rank, symbol in enumerate([*symbols, END])}
        self._explore(symbols)
        self._bound(symbols)

    def spell(self, piece: bytes | None) -> str:
        """Return a token's text in the automaton's alphabet, indistinguishable runs shortened."""
        if piece is None:
            return NEUTRAL
        text = piece.decode("utf-8", "surrogateescape").translate(self._spelling)
        return _RUNS.sub(lambda run: run[run.lastindex or 0], text)

    def lift(self, spelled: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
        """Return the state after a whole token and the label it fires, from every state before it.

        A cue fires where the token ends with it or goes on with anything that is no word
        character. Of several cues in one token the first one fires.

        Parameters
        ----------
        spelled
            Texts of tokens as `spell` returns them.

        Returns
        -------
        after : int32[n_states, n_texts]
        fired : int8[n_states, n_texts]

        """
        end = self._index[END]
        length = 1 + max(map(len, spelled))
        codes = np.full((len(spelled), length), end, np.int32)  # ends, once reached, change nothing
        for row, text in zip(codes, spelled, strict=True):
            row[: len(text)] = [self._index[symbol] for symbol in text]
        states = np.repeat(np.arange(len(self.following))[:, None], len(spelled), axis=1)
        pending = np.zeros(states.shape, np.int8)
        fired = np.zeros(states.shape, np.int8)
        for symbols in codes.T:
            drawn = self.drawls[symbols, pending]
            confirmed = (fired == 0) & ~drawn & ~self.glues[symbols, pending]
            fired = np.where(confirmed, pending, fired)
            complete = self.complete[states, symbols]
            pending = np.where(complete > 0, complete, pending * drawn)
            states = self.following[states, symbols]
        return states, fired

    def _explore(self, symbols: list[str]) -> None:
        numbers = {_START: 0}
        queue, following, complete = [_START], [], []
        for state in queue:  # grows while it is read
            steps = [self._step(state, symbol) for symbol in symbols]
            for after, _ in steps:
                if after not in numbers:
                    numbers[after] = len(queue)
                    queue.append(after)
            following.append([numbers[after] for after, _ in steps])
            complete.append([label for _, label in steps])
        still = np.arange(len(queue))[:, None]  # the end of a token: no change of state
        self.following = np.hstack([following, still]).astype(np.int32)
        self.complete = np.hstack([complete, 0 * still]).astype(np.int8)

    def _bound(self, symbols: list[str]) -> None:
        continues = np.array([self._is_word_symbol(symbol) for symbol in symbols])
        self.glues = np.zeros((len(symbols) + 1, len(self._words) + 2), bool)
        self.drawls = np.zeros_like(self.glues)
        for label, word in enumerate(self._words, start=1):
            self.glues[:-1, label] = continues & is_word(word[-1])
            if len(word) > 1 and word[-1] == word[-2]:
                self.drawls[self._index[word[-1]], label] = True

    def _is_word_symbol(self, symbol: str) -> bool:
        if symbol in _CLASSES:
            return symbol in (WORD, MARK)
        byte = ord(symbol) - _BYTE
        return byte not in _OTHER_LEADS if 0 <= byte < 256 else is_word(symbol)

    def _step(self, state: _State, symbol: str) -> tuple[_State, int]:
        fresh = (
            (rank, 0, b"")
            for rank, word in enumerate(self._words)
            if not (state.after_word and is_word(word[0]))
        )
        still_open: set[tuple[int, int, bytes]] = set()
        done, read = [], None
        for rank, matched, prefix in chain(state.open, fresh):
            word = self._words[rank]
            step = self._advance(word, matched, prefix, symbol)
            if step is None:
                continue
            if step[0] > matched:
                read = word[matched]
            if step[0] == len(word):
                done.append(rank + 1)
            else:
                still_open.add((rank, *step))
        label = max(done, key=lambda rank: (len(self._words[rank - 1]), -rank), default=0)
        lines, ended = self._count_lines(state.lines, symbol)
        after = _State(self._after_word(state, symbol, read), frozenset(still_open), lines)
        return after, label or (len(self._words) + 1 if ended else 0)

    def _advance(
        self, word: str, matched: int, prefix: bytes, symbol: str
    ) -> tuple[int, bytes] | None:
        """Return the progress in one word after a symbol; None where the match breaks."""
        wanted = word[matched]
        byte = ord(symbol) - _BYTE
        if 0 <= byte < 256:
            grown = prefix + bytes([byte])
            forms = self._encodings.get(wanted, set())
            if grown in forms:
                return matched + 1, b""
            return (matched, grown) if any(form.startswith(grown) for form in forms) else None
        if prefix:
            return None
        if symbol in (BLANK, NEWLINE):
            if wanted == " ":
                return matched + 1, b""
            return (matched, b"") if matched and word[matched - 1] == " " else None
        return (matched + 1, b"") if symbol == wanted else None

    def _after_word(self, state: _State, symbol: str, read: str | None) -> bool:
        byte = ord(symbol) - _BYTE
        if 0 <= byte < 256 and read is not None:
            return is_word(read)
        if symbol == MARK or 0x80 <= byte < 0xC0:
            return state.after_word
        return self._is_word_symbol(symbol)

    def _count_lines(self, lines: int, symbol: str) -> tuple[int, bool]:
        """Return the state of the blank-line counter and whether a paragraph ends here."""
        if not self._paragraph:
            return 2, False
        if symbol == NEWLINE:
            return min(lines + 1, 2), lines == 1
        return (lines if symbol == BLANK else 0), False


class _Spelling(dict[int, str]):
    """A translation table for `str.translate` that fills itself."""

    def __init__(self, letters: list[str], split: set[int]) -> None:
        self._letters = frozenset(letters)
        self._split = split

    def __missing__(self, code: int) -> str:
        symbol = self[code] = self._spell(code)
        return symbol

    def _spell(self, code: int) -> str:
        if 0xDC80 <= code <= 0xDCFF:  # a byte that is no complete character within its token
            byte = code - 0xDC00
            if byte in self._split:
                return chr(_BYTE + byte)
            return MARK if byte < 0xC0 else OTHER if byte in _OTHER_LEADS else WORD
        letter = fold(chr(code))
        if letter in self._letters:
            return letter
        if letter.isspace():
            return NEWLINE if letter == "\n" else BLANK
        if unicodedata.category(letter).startswith("M"):
            return MARK
        return WORD if is_word(letter) else OTHER
