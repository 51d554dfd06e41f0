"""Every command of the documents is run, or another test runs it, or there is a reason why not."""

from __future__ import annotations

import ast
import importlib
import shutil
import stat
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docs_folder import prepare
from docs_reader import Reader
from forked import Forked

from tests.documents import PAGES, ROOT, blocks, commands_in, name_of, one_line
from tests.servers import redis_server

TABLE: dict[str, Any] = tomllib.loads(
    Path(__file__).with_name("docs_commands.toml").read_text(encoding="utf-8")
)
RUNNABLE = ("cat", "curl", "grep", "python", "stopper")
"""First words of what is run without an entry; all others do too much to be run unasked."""
CURL = """#!/bin/sh
exec {curl} --fail-with-body --max-time 60 "$@"
"""
COMMANDS = [
    (name_of(page), command)
    for page in PAGES
    for block in blocks(page)
    for command in commands_in(block)
]
PYTHON = [
    (name_of(page), block.text)
    for page in PAGES
    for block in blocks(page)
    if block.language == "python" and "reference" not in page.parts
]
WITH_STEPS = sorted({page for page, _ in COMMANDS + PYTHON})


def entry(kinds: tuple[str, ...], command: str) -> tuple[str, dict[str, Any]] | None:
    """Return the entry with the longest beginning that a command has, and its kind."""
    line = f"{one_line(command)} "
    fitting = [
        (len(one["command"]), kind, one)
        for kind in kinds
        for one in TABLE[kind]
        if line.startswith(f"{one_line(one['command'])} ") or line.startswith(one["command"])
    ]
    return max(fitting, key=lambda found: found[0])[1:] if fitting else None


def python_entry(page: str, text: str) -> dict[str, Any] | None:
    return next(
        (o for o in TABLE["python"] if o["page"] == page and text.startswith(o["begins"])), None
    )


def changed(command: str) -> str:
    """Return a command as it is run: nearly always as it is written."""
    found = entry(("changed",), command)
    if found is None:
        return command
    assert found[1]["from"] in command
    return command.replace(found[1]["from"], found[1]["to"])


def how(command: str) -> str:
    found = entry(("elsewhere", "parsed"), command)
    return "run" if found is None else found[0]


def harmless(command: str) -> bool:
    """Tell whether a command may be run unasked: a program of ours, or an assignment."""
    first = one_line(command).split()[0]
    return first in RUNNABLE or "=" in first


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forked]:
    made = Forked(tmp_path_factory.mktemp("forked") / "bin")
    curl = made.programs / "curl"
    curl.write_text(CURL.format(curl=shutil.which("curl")))
    curl.chmod(curl.stat().st_mode | stat.S_IXUSR)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "reader"
    folder.mkdir()
    prepare(folder)
    return folder


@pytest.fixture(scope="module")
def redis() -> Iterator[int]:
    with redis_server() as server:
        yield int(server.url.rpartition(":")[2].partition("/")[0])


@pytest.mark.parametrize("page", WITH_STEPS)
def test_what_a_page_says_to_type_works(
    page: str, base: Path, forked: Forked, redis: int, tmp_path: Path
) -> None:
    folder = tmp_path / "reader"
    shutil.copytree(base, folder, symlinks=True)
    reader = Reader(folder, forked.programs, TABLE["names"], redis)
    try:
        for command in TABLE["given"].get(page, ()):
            reader.run(command)
        for block in blocks(ROOT / page):
            if block.language == "python" and python_entry(page, block.text) is None:
                (folder / "block.py").write_text(reader.put_in(block.text))
                reader.run("python block.py")
            for command in commands_in(block):
                if how(command) == "run":
                    assert harmless(command), f"how is this tested? {command}"
                    begun = entry(("before",), command)
                    for earlier in () if begun is None else begun[1]["run"]:
                        reader.run(earlier)
                    end = entry(("ends",), command)
                    reader.run(changed(command), ends=0 if end is None else end[1]["status"])
    finally:
        reader.stop()


@pytest.mark.parametrize("one", TABLE["elsewhere"], ids=lambda one: one["command"][:60])
def test_a_test_that_stands_for_a_command_exists_and_runs_it(one: dict[str, str]) -> None:
    file, _, function = one["test"].partition("::")
    source = (ROOT / file).read_text(encoding="utf-8")
    names = [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    assert function in names
    assert one["has"] in source


@pytest.mark.parametrize("kind", ["elsewhere", "parsed", "before", "changed", "ends"])
def test_every_entry_of_the_table_belongs_to_a_command(kind: str) -> None:
    kinds = ("elsewhere", "parsed") if kind in ("elsewhere", "parsed") else (kind,)
    used = [found[1] for _, command in COMMANDS if (found := entry(kinds, command))]
    assert [one for one in TABLE[kind] if one not in used] == []


def test_every_page_and_name_of_the_table_is_in_the_documents() -> None:
    assert set(TABLE["given"]) <= set(WITH_STEPS)
    text = "\n".join(command for _, command in COMMANDS)
    assert [name for name in TABLE["names"] if name not in text] == []
    assert [o for o in TABLE["python"] if not any(python_entry(p, t) is o for p, t in PYTHON)] == []


def test_every_reason_is_given() -> None:
    kinds = ("parsed", "before", "changed", "ends", "python")
    assert [one for kind in kinds for one in TABLE[kind] if len(one["why"]) < 15] == []


@pytest.mark.parametrize("one", TABLE["python"], ids=lambda one: one["begins"][:40])
def test_python_that_is_not_run_compiles_and_names_what_exists(one: dict[str, str]) -> None:
    (text,) = (t for p, t in PYTHON if p == one["page"] and t.startswith(one["begins"]))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_most_commands_are_run(capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counter(how(command) for _, command in COMMANDS)
    with capsys.disabled():
        print(f"\ncommands of the documents: {dict(counts)}")
    assert counts["run"] > counts["elsewhere"] + counts["parsed"]
