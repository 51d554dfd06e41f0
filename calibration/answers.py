r"""Answers: taken out of model output, and compared, as the comparer `auto` does.

Others are in :mod:`calibration.comparers`. Extraction reads the last ``\boxed{...}`` with balanced
braces. Equality asks, cheapest first: the same string after normalisation; the same choice letter;
the same word; the same number; and only then ``math-verify`` (symbolic equality). A request is
labelled thousands of times, so that the cheap steps carry nearly all of the load and sympy is
imported only when it is needed.

``math-verify`` guards itself with ``signal.alarm``, which raises off the main thread and cancels
other people's alarms on it. Here it always runs without: expressions that could take sympy long
(long text, towers of powers, huge exponents or factorials) are not given to it and compare as
strings instead.
"""

from __future__ import annotations

import logging
import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from probes.errors import UnsupportedError

#: Relative tolerance between numbers of which at least one is not whole.
NUMBER_TOLERANCE = Fraction(1, 10_000)

_LONGEST_EXPRESSION = 300
_LARGEST_EXPONENT = 999
_LARGEST_EXPANSION = 20

_SYMBOLS = {"pi": r"\pi", "infinity": r"\infty"}
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
_LETTER = re.compile(r"\(?([A-J])\)?[.:]?|\(?([A-J])[).:]\s.*", re.DOTALL)
WORDS = re.compile(r"[^\W\d_]{2,}(?:[ '-][^\W\d_]+)*")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?")
_RATIO = re.compile(r"([+-]?\d+)/([+-]?\d+)")
_FRAC = re.compile(r"([+-]?)\\frac\{([+-]?\d+)\}\{([+-]?\d+)\}")
_FRAC_SHORT = re.compile(r"\\frac(\d)(\d)(?!\d)")
_THOUSANDS = re.compile(r"(?<=\d)(?:,|\{,\}|\\,|\\!)(?=\d{3}(?!\d))")
_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_EXPONENT = re.compile(r"(?:\^|\*\*)\s*\{?\s*[+-]?(\d+)")
_TOWER = re.compile(r"(?:\^|\*\*)[^+\-=,]{0,40}?(?:\^|\*\*)")
_EXPANSION = re.compile(r"[)\]}]\s*(?:\^|\*\*)\s*\{?\s*[+-]?(\d+)")
_FACTORIAL = re.compile(r"(\d+)\s*!")
_WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_DROPPED = (r"\left", r"\right", r"\displaystyle", r"\,", r"\;", r"\:", r"\!", r"\ ", "~")
_REPLACED = (
    (r"\dfrac", r"\frac"),
    (r"\tfrac", r"\frac"),
    (r"\cdot", "*"),
    (r"\times", "*"),
    ("\N{MINUS SIGN}", "-"),
    ("\N{EN DASH}", "-"),
    (r"\$", ""),
)


def extract_answer(text: str) -> str | None:
    r"""Take the answer out of a complete output.

    Parameters
    ----------
    text
        Decoded text, thinking included or not.

    Returns
    -------
    The content of the last ``\boxed{...}`` (or ``\fbox{...}``) whose braces close, stripped; None
    where there is none or it is empty. A box cut off by the token limit is no answer.

    Examples
    --------
    >>> extract_answer(r"so \boxed{1}, no: \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    answer = None
    for match in _BOXED.finditer(text):
        content = _until_closed(text[match.end() :])
        if content is not None:
            answer = content.strip() or None
    return answer


def extract_forced(text: str, answer_prompt: str = r"\boxed{") -> str | None:
    r"""Take the answer out of what follows a forced end of thinking.

    Parameters
    ----------
    text
        Decoded text generated after the answer prompt.
    answer_prompt
        The words put in the model's mouth before it. Where they end inside an open brace, such as
        ``Final Answer: \boxed{``, the answer is everything up to the brace that closes it.

    Returns
    -------
    The answer, stripped; None where the box never closes or is empty. Where the prompt opens no
    box, as :func:`extract_answer`.

    Examples
    --------
    >>> extract_forced(r"\frac{1}{2}}$. Done \boxed{3}")
    '\\frac{1}{2}'
    """
    opened = open_box(answer_prompt)
    if opened is None:
        return extract_answer(text)
    content = _until_closed(opened + text)
    return None if content is None else content.strip() or None


def open_box(answer_prompt: str) -> str | None:
    """Give what already stands in the box that a prompt leaves open; None if it leaves none."""
    opened = None
    for match in _BOXED.finditer(answer_prompt):
        inside = answer_prompt[match.end() :]
        opened = inside if _until_closed(inside) is None else None
    return opened


def same_answer(first: str | None, second: str | None) -> bool:
    r"""Tell whether two answers are equal; an absent answer equals nothing, not even another.

    Symmetric, deterministic, safe in any thread, never raises on any text (only, an
    ``UnsupportedError``, where math-verify is needed and not installed). What cannot be understood
    is equal only if it is the same string.

    Examples
    --------
    >>> same_answer("0.5", r"\frac{1}{2}"), same_answer("1,000", "1000"), same_answer("2", "3")
    (True, True, False)
    """
    if first is None or second is None:
        return False
    if first == second:
        return bool(first.strip())
    return _same(*sorted((first, second)))


def normalise(answer: str) -> str:
    """Bring an answer to a plain form: no math delimiters, text macros, spacing or thousands."""
    text = answer.strip().rstrip(".").strip()
    for left, right in _WRAPPERS:
        if len(text) > len(left + right) and text.startswith(left) and text.endswith(right):
            text = text[len(left) : -len(right)].strip()
    text = _TEXT.sub(lambda match: match[1].strip(), text)
    for old, new in _REPLACED:
        text = text.replace(old, new)
    text = _THOUSANDS.sub("", text)
    for dropped in _DROPPED:
        # "\left" must not bite into "\leftarrow": a macro's name ends where letters end.
        pattern = re.escape(dropped) + (r"(?![A-Za-z])" if dropped[-1].isalpha() else "")
        text = re.sub(pattern, " ", text)
    text = _FRAC_SHORT.sub(r"\\frac{\1}{\2}", text)
    return " ".join(text.split()).rstrip(".").strip()


@lru_cache(maxsize=65_536)
def _same(first: str, second: str) -> bool:
    one, two = (_SYMBOLS.get(text, text) for text in (normalise(first), normalise(second)))
    if not one or not two:
        return False
    if one.replace(" ", "") == two.replace(" ", ""):
        return True
    letters = _letter(one), _letter(two)
    if all(letters):
        return letters[0] == letters[1]
    if WORDS.fullmatch(one) or WORDS.fullmatch(two):
        # math-verify reads a word as a product of letters, so that "no" would equal "on".
        return one.casefold() == two.casefold()
    numbers = _number(one), _number(two)
    if numbers[0] is not None and numbers[1] is not None:
        return _same_number(numbers[0], numbers[1])
    if costly(one) or costly(two):
        return False
    return same_symbolically(one, two)


def _until_closed(text: str) -> str | None:
    """Give the text up to the brace that closes an already open one; None if none does."""
    depth, escaped = 1, False
    for index, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return text[:index]
    return None


def _letter(text: str) -> str | None:
    match = _LETTER.fullmatch(text)
    return match and (match[1] or match[2])


def _number(text: str) -> Fraction | None:
    compact = text.replace(" ", "")
    if len(compact) > 60:
        return None
    if _NUMBER.fullmatch(compact):
        return Fraction(compact)
    if match := _RATIO.fullmatch(compact):
        numerator, denominator = int(match[1]), int(match[2])
    elif match := _FRAC.fullmatch(compact):
        numerator, denominator = int(match[1] + "1") * int(match[2]), int(match[3])
    else:
        return None
    return Fraction(numerator, denominator) if denominator else None


def _same_number(one: Fraction, two: Fraction) -> bool:
    if one.denominator == 1 and two.denominator == 1:
        return one == two  # 100000 is not 100001, however close
    return abs(one - two) <= NUMBER_TOLERANCE * max(abs(one), abs(two))


def costly(text: str) -> bool:
    """Tell whether an expression could keep sympy busy for long."""
    if len(text) > _LONGEST_EXPRESSION or _TOWER.search(text):
        return True
    exponents = [*_EXPONENT.findall(text), *_FACTORIAL.findall(text)]
    if any(len(digits) > 4 or int(digits) > _LARGEST_EXPONENT for digits in exponents):
        return True
    return any(int(digits) > _LARGEST_EXPANSION for digits in _EXPANSION.findall(text))


def same_symbolically(one: str, two: str, float_rounding: int = 4) -> bool:
    """Ask math-verify about two normalised expressions; False for what it cannot parse."""
    parse, verify = _math_verify()
    try:
        parsed = [parse(f"${text}$", parsing_timeout=None) for text in (one, two)]
        if not all(parsed):
            return False
        # math-verify treats gold and answer differently; ours is an equality, so either may pass.
        how = {"float_rounding": float_rounding, "timeout_seconds": None}
        return bool(verify(*parsed, **how) or verify(*reversed(parsed), **how))
    except Exception:  # sympy may raise anything on odd input, which then equals nothing else
        return False


@lru_cache(maxsize=1)
def _math_verify() -> tuple[Any, Any]:
    try:
        from math_verify import parse, verify
    except ImportError:
        raise UnsupportedError(
            "comparing answers needs math-verify; install it with `pip install "
            "'stopper[calibrate]'`."
        ) from None
    # Both warn that their alarm is off; it is off on purpose, and they log every odd input.
    for name in ("math_verify.parser", "math_verify.grader", "math_verify.utils"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return parse, verify
