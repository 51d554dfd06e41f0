"""The reference pages of the documentation are what the code says now."""

from __future__ import annotations

import re

import pytest

from docs.generators.cli import commands
from docs.generators.pages import COMMAND, FOLDER, PAGES, page
from docs.generators.rest import scopes


@pytest.mark.parametrize("name", PAGES)
def test_a_committed_reference_page_is_what_the_code_makes_now(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert text.startswith(f"<!-- made by: {COMMAND} -->\n")
    assert text == page(name), f"docs/reference/{name} is out of date; run `{COMMAND}`"


def test_every_reference_page_has_a_maker() -> None:
    assert {file.name for file in FOLDER.iterdir()} == set(PAGES)


def test_the_command_line_page_has_groups_and_commands_of_adapters() -> None:
    names = {command.name for command in commands()}
    assert {"stopper collect", "stopper keys new", "stopper diffusion compare"} <= names


def test_every_route_with_a_key_has_its_scope_on_the_page() -> None:
    text = (FOLDER / "rest.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| \[([A-Z]+ \S+)\]\(\S+\) \| `(\w+)` \|", text, re.MULTILINE))
    assert told == scopes()
    assert set(told.values()) == {"decide", "read", "admin"}
