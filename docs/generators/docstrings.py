"""What docstrings in numpy style say: the text before the sections, and each attribute's."""

from __future__ import annotations

import inspect
import re

import griffe

from docs.generators.markdown import prose


def text_of(docstring: str | None) -> str:
    """Return the paragraphs before the first section."""
    for section in _sections(docstring):
        if section.kind is griffe.DocstringSectionKind.text:
            return prose(str(section.value))
    return ""


def summary(docstring: str | None) -> str:
    """Return the first paragraph, on one line."""
    return " ".join(text_of(docstring).split("\n\n")[0].split())


def attributes(docstring: str | None) -> dict[str, str]:
    """Return the meaning of each attribute; "a, b" as one entry counts for both."""
    found: dict[str, str] = {}
    for section in _sections(docstring):
        if section.kind in (
            griffe.DocstringSectionKind.attributes,
            griffe.DocstringSectionKind.parameters,
        ):
            for entry in section.value:
                for name in re.split(r",\s*", entry.name):
                    found[name] = " ".join(prose(entry.description).split())
    return found


def _sections(docstring: str | None) -> list[griffe.DocstringSection]:
    text = inspect.cleandoc(docstring or "")
    return griffe.Docstring(text, lineno=1).parse("numpy", warnings=False) if text else []
