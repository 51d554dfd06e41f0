"""The documentation as a reader meets it: pages, their prose, and the commands in them."""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("README.md")),
    *sorted((ROOT / "deploy").rglob("*.md")),
]
SHELLS = ("sh", "bash", "console")
PROGRAMS = (
    "docker",
    "git",
    "helm",
    "kubectl",
    "make",
    "pip",
    "python",
    "stopper",
    "systemctl",
    "vllm",
)
"""What a block without a language is a block of commands by."""


@dataclass(frozen=True)
class Block:
    """A fenced or indented block."""

    language: str
    text: str


def name_of(page: Path) -> str:
    """Return a page's name from the root, such as docs/rules.md."""
    return page.relative_to(ROOT).as_posix()


@functools.cache
def blocks(page: Path) -> tuple[Block, ...]:
    """Return the blocks of a page in their order."""
    return tuple(
        Block(token.info.strip(), token.content)
        for token in MarkdownIt().parse(page.read_text(encoding="utf-8"))
        if token.type in ("fence", "code_block")
    )


def prose(page: Path) -> str:
    """Return a page's text without its blocks."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for token in MarkdownIt().parse("\n".join(lines)):
        if token.type in ("fence", "code_block") and token.map is not None:
            lines[slice(*token.map)] = [""] * (token.map[1] - token.map[0])
    return "\n".join(lines)


def commands_in(block: Block) -> Iterator[str]:
    """Give the commands of a block, each as the shell reads it: over several lines if need be."""
    lines = block.text.splitlines()
    if block.language not in SHELLS:
        first = next((line.split() for line in lines if line.strip()), [])
        if block.language or not first or first[0] not in PROGRAMS:
            return
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    begun: list[str] = []
    for line in lines:
        if not begun and (not line.strip() or line.lstrip().startswith("#")):
            continue
        begun.append(line)
        text = "\n".join(begun)
        if complete(text):
            yield text
            begun.clear()
    assert not begun, f"no shell can read this: {begun}"


@functools.cache
def complete(text: str) -> bool:
    """Ask bash whether a text is a whole command: no quote, loop or here-document is open."""
    if text.rstrip().endswith("\\"):
        return False
    asked = subprocess.run(["bash", "-n", "-c", text], capture_output=True, check=False)
    return asked.returncode == 0 and not asked.stderr


def words_of(command: str, program: str) -> Iterator[list[str]]:
    """Give the arguments of each call of a program in a command, also inside a loop or a chain."""
    lexer = shlex.shlex(command.replace("\\\n", " "), posix=True, punctuation_chars=";&|<>()\n")
    lexer.whitespace = " \t"
    lexer.whitespace_split = True
    call: list[str] = []
    for word in [*lexer, ";"]:
        if word and set(word) <= set(";&|<>()\n"):
            words = call
            while words and (words[0] in ("do", "then", "$") or re.fullmatch(r"\w+=.*", words[0])):
                words = words[1:]
            if words and Path(words[0]).name == program:
                yield words[1:]
            call = []
        else:
            call.append(word)


def one_line(command: str) -> str:
    """Return a command with every run of white space as one blank, to compare it by."""
    return " ".join(command.replace("\\\n", " ").split())
