"""The layout of a text: what must not be cut inside, and what is prose.

Fenced code, headings and rows of tables are units. List items begin anew, so that a marker such as
"1." is no sentence of its own. Everything else is prose, from blank line to blank line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE = re.compile(r"(?:[^\S\n]*\n)+|[^\n]+\n?")
"""Blank lines count as one, however many."""

_FENCE = re.compile(r"[ \t]{0,12}(`{3,}|~{3,})")
_HEADING = re.compile(r"[ \t]{0,3}#{1,6}(?:[ \t]|$)")
_UNDERLINE = re.compile(r"[ \t]{0,3}(?:={3,}|-{3,}|\*{3,}|_{3,})\s*$")
_ITEM = re.compile(r"\s*(?:[-*+\u2022\u2023\u25e6\u00b7]|\d{1,3}[.)]|\([a-z\d]{1,3}\))[ \t]+")
_DELIMITERS = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?\s*$")

_ENDS = re.compile(
    "[\u3002\uff01\uff1f\uff61]+[\u300d\u300f\uff09\u3011\u201d\u2019\"')]*"  # Chinese, Japanese
    r"|(?:(?:</(?:p|div|li|ul|ol|tr|table|h[1-6]|section|article|blockquote|pre)\s*>"
    r"|<[bh]r\s*/?>)\s*)+",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a text.

    Attributes
    ----------
    start, end
        Characters of the text.
    whole
        Not to be cut.
    lead
        Where the words begin, after a list marker.

    """

    start: int
    end: int
    whole: bool
    lead: int


def blocks(text: str) -> Iterator[Block]:
    """Yield the parts of a text in order; between them lies nothing but white space."""
    lines = [(found.start(), found.end()) for found in _LINE.finditer(text)]
    at = 0
    in_table = False
    while at < len(lines):
        start, end = lines[at]
        line = text[start:end]
        if not line.strip():
            at, in_table = at + 1, False
            continue
        following = text[slice(*lines[at + 1])] if at + 1 < len(lines) else ""
        header = _is_header(line, following)
        in_table = header or (in_table and "|" in line)
        if header:
            last: int | None = at + 1  # a header is nothing without its line
        elif in_table:
            last = at
        else:
            last = _last_of_unit(text, lines, at, following)
        if last is not None:
            yield Block(start, lines[last][1], True, start)
            at = last + 1
            continue
        item = _ITEM.match(line)
        last = at
        while last + 1 < len(lines) and _goes_on(text, lines, last + 1):
            last += 1
        lead = start if item is None else start + item.end()
        yield Block(start, lines[last][1], lead >= lines[last][1], lead)
        at = last + 1


def ends(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut prose where a sentence ends whatever the splitter says: CJK full stops, HTML blocks."""
    for found in _ENDS.finditer(text, start, end):
        yield start, found.end()
        start = found.end()
    if start < end:
        yield start, end


def _last_of_unit(text: str, lines: list[tuple[int, int]], at: int, following: str) -> int | None:
    """Return the last line of the unit that begins here; None for prose."""
    line = text[slice(*lines[at])]
    fence = _FENCE.match(line)
    if fence is not None:
        return _end_of_fence(text, lines, at, fence[1])
    if _HEADING.match(line) or _UNDERLINE.match(line) or line.lstrip().startswith("|"):
        return at
    return at + 1 if _UNDERLINE.match(following) and _ITEM.match(line) is None else None


def _end_of_fence(text: str, lines: list[tuple[int, int]], at: int, mark: str) -> int:
    for place in range(at + 1, len(lines)):
        line = text[slice(*lines[place])].strip()
        if line.startswith(mark) and not line.strip(mark[0]):
            return place
    return len(lines) - 1  # never closed: all of it is code


def _is_header(line: str, following: str) -> bool:
    return "|" in line and "|" in following and _DELIMITERS.match(following) is not None


def _goes_on(text: str, lines: list[tuple[int, int]], at: int) -> bool:
    """Tell whether a line belongs to the prose before it."""
    line = text[slice(*lines[at])]
    if not line.strip() or _ITEM.match(line):
        return False
    if _FENCE.match(line) or _HEADING.match(line) or _UNDERLINE.match(line):
        return False
    if line.lstrip().startswith("|"):
        return False
    following = text[slice(*lines[at + 1])] if at + 1 < len(lines) else ""
    return not _is_header(line, following)
