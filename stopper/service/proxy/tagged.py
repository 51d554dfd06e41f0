"""Documents as tagged blocks in a text: `<document title="...">...</document>`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stopper.context import Document

_OPEN = re.compile(r'<document((?:\s{1,8}[\w.:-]{1,64}="[^"]{0,2000}")*)\s{0,8}>')
_CLOSE = "</document>"
_TITLE = re.compile(r'\stitle="([^"]*)"')
_INJECTED = re.compile(r"<(?=/document\b)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Block:
    """A tagged block.

    Attributes
    ----------
    title
        Of its attribute; empty without one.
    start, end
        Of the words inside, without the white space around them.
    outer_start, outer_end
        Of the whole block, its tags included.

    """

    title: str
    start: int
    end: int
    outer_start: int
    outer_end: int


def blocks(text: str) -> list[Block]:
    """Find the blocks of a text, in order.

    A block ends at the first closing tag. What is opened and never closed is none.
    """
    found: list[Block] = []
    at = 0
    while (opened := _OPEN.search(text, at)) is not None:
        close = text.find(_CLOSE, opened.end())
        if close < 0:
            break
        inside = text[opened.end() : close]
        start = opened.end() + len(inside) - len(inside.lstrip())
        end = max(start, opened.end() + len(inside.rstrip()))
        title = _TITLE.search(opened[1])
        at = close + len(_CLOSE)
        found.append(Block("" if title is None else title[1], start, end, opened.start(), at))
    return found


def outside(text: str, found: Sequence[Block]) -> str:
    """Return what stands outside the blocks."""
    parts, at = [], 0
    for block in found:
        parts.append(text[at : block.outer_start])
        at = block.outer_end
    return "".join([*parts, text[at:]])


def refilled(text: str, found: Sequence[Block], texts: Iterable[str]) -> str:
    """Put other words into the blocks; everything else stays."""
    parts, at = [], 0
    for block, inside in zip(found, texts, strict=True):
        parts += [text[at : block.start], inside]
        at = block.end
    return "".join([*parts, text[at:]])


def layout(documents: Iterable[Document]) -> str:
    """Write documents as blocks, one after the other; those without words are left out.

    A closing tag inside a document is written `&lt;/document>`, so that its text cannot end its
    block.
    """
    parts = []
    for document in documents:
        if not document.text.strip():
            continue
        title = " ".join(document.title.split()).replace('"', "&quot;").replace("<", "&lt;")
        named = f' title="{title}"' if title else ""
        text = _INJECTED.sub("&lt;", document.text)
        parts.append(f"<document{named}>\n{text}\n{_CLOSE}")
    return "\n".join(parts)
