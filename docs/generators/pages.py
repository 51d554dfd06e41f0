"""The reference pages by the name of their file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from docs.generators import api, citation, cli, configuration, metrics, plugin, rest

FOLDER = Path(__file__).resolve().parents[1] / "reference"
COMMAND = "make references"

PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "cli.md": cli.blocks,
    "rest.md": rest.blocks,
    "plugin.md": plugin.blocks,
    "configuration.md": configuration.blocks,
    "metrics.md": metrics.blocks,
    "api.md": api.blocks,
    "citation.md": citation.blocks,
}


def page(name: str) -> str:
    """Return a page's text: the command that makes it, then its blocks."""
    return "\n\n".join((f"<!-- made by: {COMMAND} -->", *PAGES[name]())) + "\n"
