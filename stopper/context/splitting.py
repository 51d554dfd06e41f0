"""Splits a text into sentences that cover it, whatever is in it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stopper.context.blocks import blocks, ends
from stopper.context.limits import Deadline
from stopper.context.splitters import WINDOW, Span, Splitter, named
from stopper.errors import InputError

MOST_CHARACTERS = 20_000
"""A longer sentence of prose is cut at white space. Fenced code is not."""

_MAY_END = re.compile(r"""[^\w \t,;:'"()\[\]{}/|<>=*+#&%$@\-]""")
_SURROGATES = re.compile("[\ud800-\udfff]")


def split(
    text: str, splitter: str | Splitter = "spacy", deadline: Deadline | None = None
) -> list[Span]:
    """Return where each sentence begins and ends.

    Code blocks, headings and rows of tables are one sentence each. Chinese and Japanese full stops
    and the ends of HTML's blocks end a sentence whatever the splitter says.

    Parameters
    ----------
    text
        Any characters.
    splitter
        "spacy" (its rule-based sentencizer), "pysbd", or a function from prose to places in it.
    deadline
        None takes the time it needs.

    Returns
    -------
    list of (start, end)
        In order, disjoint, neither beginning nor ending in white space; every other character of
        the text is in one.

    Raises
    ------
    InputError
        If there is no such splitter, or a function gives places that are not in order.
    UnsupportedError
        If its package is missing.
    ContextTimeoutError
        If the deadline passes.

    Examples
    --------
    >>> split("Dr. No lives. Who cares?")
    [(0, 13), (14, 24)]

    """
    cut = splitter if callable(splitter) else _sparing(named(splitter))
    most = MOST_CHARACTERS if callable(splitter) else WINDOW[splitter]
    text = readable(text)
    found: list[Span] = []
    for block in blocks(text):
        if deadline is not None:
            deadline.check()
        if block.whole:
            found += _trimmed(text, block.start, block.end)
            continue
        inside = [
            span
            for start, end in ends(text, block.lead, block.end)
            for part in _windows(text, start, end, cut, most, deadline)
            for span in _trimmed(text, *part)
        ]
        if block.lead > block.start:  # the marker goes with the words behind it
            begin, end = _trimmed(text, block.start, block.lead)[0]
            inside = [(begin, inside[0][1]), *inside[1:]] if inside else [(begin, end)]
        found += inside
    return found


def readable(text: str) -> str:
    """Return a text of the same length that UTF-8 can carry: U+FFFD for lone surrogates."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def _trimmed(text: str, start: int, end: int) -> list[Span]:
    inside = text[start:end]
    left = len(inside) - len(inside.lstrip())
    right = len(inside.rstrip())
    return [(start + left, start + right)] if left < right else []


def _sparing(cut: Splitter) -> Splitter:
    """Spare the splitter texts in which nothing can end a sentence but the last character."""

    def sparing(text: str) -> list[Span]:
        return cut(text) if _MAY_END.search(text.rstrip()[:-1]) else [(0, len(text))]

    return sparing


def _windows(
    text: str, start: int, end: int, cut: Splitter, most: int, deadline: Deadline | None
) -> Iterator[Span]:
    """Yield sentences of any long prose; the splitter sees `most` characters of it at a time.

    The last sentence of a window may go on behind it, so that the next window begins with it.
    """
    while start < end:
        if deadline is not None:
            deadline.check()
        stop = min(end, start + most)
        parts = _checked(cut(text[start:stop]), stop - start)
        if stop < end and len(parts) > 1:
            parts.pop()
        elif stop < end:
            parts = [(0, _last_space(text, start, stop) - start)]
        for first, last in parts:
            yield start + first, start + last
        start += parts[-1][1]


def _last_space(text: str, start: int, stop: int) -> int:
    for place in range(stop, start + (stop - start) // 2, -1):
        if text[place - 1].isspace():
            return place
    return stop


def _checked(spans: list[Span], length: int) -> list[Span]:
    """Let sentences begin where a splitter says, and each last until the next one."""
    begins = [0]
    last = 0
    for start, end in spans:
        if not last <= start <= end <= length:
            raise InputError(
                f"the splitter gives a sentence {start}:{end} after {last} in {length} characters; "
                "its sentences must lie in the text, one after the other"
            )
        if start > begins[-1]:
            begins.append(start)
        last = end
    return list(zip(begins, [*begins[1:], length], strict=True))
