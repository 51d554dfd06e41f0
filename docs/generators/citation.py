"""How to cite, from CITATION.cff."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from docs.generators.markdown import fence

FILE = Path(__file__).resolve().parents[2] / "CITATION.cff"


def blocks() -> Iterator[str]:
    """Give the page's blocks."""
    found = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    yield "# Citation"
    yield f"{found['message']} From [CITATION.cff](../../CITATION.cff):"
    yield fence("bibtex", _bibtex(found))
    yield "## It stands on"
    yield "\n".join(f"- {_reference(one)}" for one in found["references"])


def _bibtex(found: dict[str, Any]) -> str:
    fields = {
        "title": f"{{{found['title']}}}: {found['abstract']}",
        "author": " and ".join(map(_author, found["authors"])),
        "version": str(found["version"]),
        "year": str(found["date-released"])[:4] if "date-released" in found else "",
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join(("@software{stopper,", *lines, "}"))


def _author(one: dict[str, str]) -> str:
    if "name" in one:
        return f"{{{one['name']}}}"
    return f"{one['family-names']}, {one['given-names']}"


def _reference(one: dict[str, Any]) -> str:
    names = [author.get("name") or f"{author['family-names']}" for author in one["authors"]]
    notes = f", {one['notes']}" if "notes" in one else ""
    return f"{', '.join(names)}: *{one['title']}* ({one['year']}){notes}"
