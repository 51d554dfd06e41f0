"""Markdown from plain values: cells, tables, code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any


def cell(text: str) -> str:
    """Return a text on one line, with the bars that would end a table's cell escaped."""
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))


def code(text: str) -> str:
    """Return a text as code, in as many backticks as it needs; an empty one stays empty."""
    if not text:
        return ""
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    inner = f" {text} " if text.startswith("`") or text.endswith("`") else text
    return f"{ticks}{inner}{ticks}"


def value(given: Any) -> str:
    """Return a default as code; nothing for None."""
    if given is None:
        return ""
    return code(given if isinstance(given, str) and given else json.dumps(given, default=str))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; columns that no row fills are left out."""
    body = [[cell(entry) for entry in row] for row in rows]
    kept = [i for i, _ in enumerate(head) if i == 0 or any(row[i] for row in body)]
    lines = [
        [head[i] for i in kept],
        ["---"] * len(kept),
        *([row[i] for i in kept] for row in body),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fence(language: str, text: str) -> str:
    """Return a fenced block."""
    return f"```{language}\n{text.rstrip()}\n```"


def pretty(example: Any) -> str:
    """Return a JSON example as a fenced block; lists of plain values stay on one line."""
    text = json.dumps(example, indent=2, ensure_ascii=False)
    flat = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text)
    return fence("json", flat)


def prose(text: str) -> str:
    """Return a docstring's text as Markdown: roles and double backticks become code."""
    text = re.sub(r":\w+:`~?\.?([^`]+)`", r"`\1`", text)
    return re.sub(r"``([^`]+)``", r"`\1`", text)


def plain(text: str) -> str:
    """Return a text whose angle brackets are shown and not taken for HTML."""
    parts = re.split(r"(`+[^`]*`+)", text)
    return "".join(
        part if index % 2 else part.replace("<", "&lt;").replace(">", "&gt;")
        for index, part in enumerate(parts)
    )


def linked(text: str) -> str:
    """Return a text in which a page of docs/ that it names is a link to it."""
    return re.sub(r"(?<![\w/`])docs/([\w-]+)\.md", r"[docs/\1.md](../\1.md)", text)
