"""A tokenizer without a vocabulary: the ids carry the text, so that any server reads any ids."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stopper.errors import InputError

EOS = 0
_BYTES = 5
_SHIFT = 8 * _BYTES  # a text token is its length in bytes, then its bytes: below 2**43
_FOREIGN = re.compile(r"<\|(\d{1,12})\|>")
THINK, END_OF_THINKING = "<think>", "</think>"


class Tokenizer:
    """Up to five bytes of UTF-8 a token, whole characters; a word's space belongs to the word.

    Ids below 2**40 are no text: they read as ``<|7|>``, and so the ids of another model's
    tokenizer pass through unharmed.

    Parameters
    ----------
    think, end_of_thinking
        Ids of ``<think>`` and ``</think>``, below 2**40.

    Examples
    --------
    >>> tokenizer = Tokenizer(1, 2)
    >>> tokenizer.decode(tokenizer.encode("<think>One, two</think>"))
    '<think>One, two</think>'

    """

    def __init__(self, think: int, end_of_thinking: int) -> None:
        self.think = think
        self.end_of_thinking = end_of_thinking
        self._named = {THINK: think, END_OF_THINKING: end_of_thinking}
        self._names = {number: name for name, number in self._named.items()}
        self._split = re.compile(rf"({THINK}|{END_OF_THINKING}|{_FOREIGN.pattern})")

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; `decode` gives it back, lone surrogates as question marks."""
        ids: list[int] = []
        at = 0
        for found in self._split.finditer(text):
            number = self._named.get(found[0])
            if number is None:
                number = int(found[2])
                if number >= 1 << _SHIFT or found[0] != self._read(number):
                    continue  # looks like an id, but is text
            ids += _words(text[at : found.start()])
            ids.append(number)
            at = found.end()
        return ids + _words(text[at:])

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids; a concatenation of ids is a concatenation of texts.

        Raises
        ------
        InputError
            If an id is negative, or is no id of this tokenizer.

        """
        return "".join(map(self._read, ids))

    def _read(self, number: int) -> str:
        if number == EOS:
            return ""
        if 0 < number < 1 << _SHIFT:
            return self._names.get(number, f"<|{number}|>")
        width = number >> _SHIFT
        try:
            if not 0 < width <= _BYTES:
                raise ValueError(f"a width of {width}")
            low = number & ((1 << _SHIFT) - 1)
            return low.to_bytes(width, "big").decode()
        except (ValueError, OverflowError):
            raise InputError(f"{number} is no token id of the scripted engine") from None


def _words(text: str) -> list[int]:
    ids: list[int] = []
    held = b""
    for character in text:
        encoded = character.encode("utf-8", "replace")
        if held and (character.isspace() or len(held) + len(encoded) > _BYTES):
            ids.append(_pack(held))
            held = b""
        held += encoded
    return [*ids, _pack(held)] if held else ids


def _pack(part: bytes) -> int:
    return (len(part) << _SHIFT) | int.from_bytes(part, "big")
