"""When two answers are the same: one function per named comparer of calibration/comparers.py.

Every function takes two texts, is symmetric and deterministic, and never raises.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache

from calibration.answers import (
    NUMBER_TOLERANCE,
    WORDS,
    costly,
    normalise,
    same_symbolically,
)

_ARTICLE = re.compile(r"\b(?:a|an|the)\b(?=\s)")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_FIGURE = re.compile(r"((?<!\w)[-+]?\d+(?:[.,:/]\d+)*%?)")
_LEAD = re.compile(
    r"(?:(?:the|final|correct|best|right)\s+)*(?:answer|option|choice)\s*(?:is|:)?\s*"
    r"(?:(?:option|choice)\s+)?",
    re.IGNORECASE,
)
_ONE = r"(?:\(\s*([A-Za-z])\s*\)|\[\s*([A-Za-z])\s*\]|([A-Za-z]))"
_OPTION = re.compile(
    rf"{_ONE}(?:\s*[.:)](?:\s.*)?|\s+[-\N{{EN DASH}}\N{{EM DASH}}]\s.*)?", re.DOTALL
)
_BRACKETED_OPTION = re.compile(r"[(\[]\s*([A-Za-z])\s*[)\]](?:\s.*)?", re.DOTALL)
_SEVERAL = re.compile(
    r"[(\[]?[A-Za-z][)\]]?(?:\s*(?:,\s*and|,|;|/|&|\band\b)\s*[(\[]?[A-Za-z][)\]]?)+", re.IGNORECASE
)
_LETTER_OF_SEVERAL = re.compile(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])")
_FRACTION = re.compile(r"([-+]?)\\frac\{([-+]?\d+)\}\{([-+]?\d+)\}")
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?(?:\s*/\s*\d+)?")
_LONGEST_NUMBER = 60


def same_string(first: str, second: str) -> bool:
    """Tell whether two answers are the same but for white space around them."""
    return bool(first.strip()) and first.strip() == second.strip()


def same_text(first: str, second: str) -> bool:
    """Compare free text as SQuAD's evaluation does, over all of Unicode.

    Notes
    -----
    Rajpurkar, Zhang, Lopyrev, Liang, "SQuAD: 100,000+ Questions for Machine Comprehension of Text"
    (2016), section 6.1: punctuation, articles, white space and case do not count. Here NFKC comes
    first, case is folded, and punctuation is Unicode's. Where SQuAD would call different answers
    the same, this does not: a number keeps its sign, point and percent sign, symbols such as "<"
    stay, an article at the very end stays ("vitamin A"), and what is nothing but punctuation
    equals only itself.
    """
    one, two = plain_text(first), plain_text(second)
    if one and two:
        return one == two
    return not one and not two and _folded(first) == _folded(second) != ""


@lru_cache(maxsize=65_536)
def plain_text(answer: str) -> str:
    """Bring free text to the form in which it is compared; see :func:`same_text`.

    Examples
    --------
    >>> plain_text("The  U.S. Army!"), plain_text("-3.5%"), plain_text("1,000 men")
    ('us army', '-3.5%', '1000 men')
    """
    text = _THOUSANDS.sub("", _folded(answer).replace("\N{MINUS SIGN}", "-"))
    parts = _FIGURE.split(text)  # figures at the odd places
    parts[::2] = (
        "".join(c for c in part if unicodedata.category(c)[0] != "P" and c != "`")
        for part in parts[::2]
    )
    return " ".join(_ARTICLE.sub(" ", " ".join("".join(parts).split())).split())


def same_option(first: str, second: str) -> bool:
    """Compare options of a multiple choice by their letters; the option's text is ignored.

    An answer that names no letter is compared as free text, and equals no letter.
    """
    one, two = letters(first), letters(second)
    if one is None and two is None:
        return same_text(first, second)
    return one == two


@lru_cache(maxsize=65_536)
def letters(answer: str) -> frozenset[str] | None:
    """Read which options an answer names, as capitals; None if it names none.

    Examples
    --------
    >>> [sorted(letters(text)) for text in ("(b)", "B. Paris", "option B", "A and C")]
    [['B'], ['B'], ['B'], ['A', 'C']]
    >>> letters("A cat"), letters("Paris")
    (None, None)
    """
    text = unicodedata.normalize("NFKC", normalise(answer.strip().strip("*_` "))).strip("*_` .")
    match = _LEAD.match(text)
    if match and match.end() < len(text):
        text = text[match.end() :].strip("*_` ")
    for pattern in (_OPTION, _BRACKETED_OPTION):
        if found := pattern.fullmatch(text):
            letter = next(group for group in found.groups() if group)
            # "x = 5" and "e" are no options; lists go from A to J, rarely further.
            return frozenset(letter.upper()) if letter.upper() <= "J" else None
    if _SEVERAL.fullmatch(text):
        named = frozenset(letter.upper() for letter in _LETTER_OF_SEVERAL.findall(text))
        return named if max(named) <= "J" else None
    return None


def same_number(first: str, second: str) -> bool:
    """Compare numbers, whole ones too, within a relative tolerance of 1e-4.

    Units, currencies and percent signs are ignored. What does not hold exactly one number equals
    only the same string.
    """
    one, two = number(first), number(second)
    if one is None or two is None:
        return one is None and two is None and same_string(first, second)
    return abs(one - two) <= NUMBER_TOLERANCE * max(abs(one), abs(two))


@lru_cache(maxsize=65_536)
def number(answer: str) -> Fraction | None:
    r"""Read the one number of an answer; None if there is none, or more than one.

    Examples
    --------
    >>> number(r"\$1,250.50"), number("3/4 cup"), number("3 to 5")
    (Fraction(2501, 2), Fraction(3, 4), None)
    """
    text = normalise(unicodedata.normalize("NFKC", answer))
    text = _FRACTION.sub(lambda match: f"{match[1]}{match[2]}/{match[3]}", text)
    text = text.replace("$", " ").replace("{", " ").replace("}", " ")
    found = [match[0].replace(" ", "") for match in _NUMBER.finditer(text)]
    if len(found) != 1 or len(found[0]) > _LONGEST_NUMBER or not found[0].isascii():
        return None
    numerator, _, denominator = found[0].partition("/")
    if denominator and not int(denominator):
        return None
    return Fraction(numerator) / (int(denominator) if denominator else 1)


def same_mathematics(first: str, second: str) -> bool:
    """Let math-verify decide, at its own precision; only the same string needs no parsing.

    No letters, no words, no tolerance beyond math-verify's. Expressions that could keep sympy busy
    for long are compared as strings; see :mod:`calibration.answers`.
    """
    if first == second:
        return bool(first.strip())
    return _same_mathematics(*sorted((first, second)))


@lru_cache(maxsize=65_536)
def _same_mathematics(first: str, second: str) -> bool:
    one, two = normalise(first), normalise(second)
    if not one or not two:
        return False
    if one == two:
        return True
    if WORDS.fullmatch(one) or WORDS.fullmatch(two):
        return False  # it would read a word as a product of letters: "no" as "on"
    if costly(one) or costly(two):
        return False
    return same_symbolically(one, two, float_rounding=6)


def _folded(answer: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", answer).casefold())
    return " ".join(folded.split())
