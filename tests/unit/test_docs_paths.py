"""The documents are true: paths and links lead somewhere, commands parse, settings exist."""

from __future__ import annotations

import functools
import inspect
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from adapters.vllm import stop_thinking
from adapters.vllm.record import record
from adapters.vllm.request_options import RequestOptions
from adapters.vllm.session import Session
from adapters.vllm.settings import PluginSettings
from calibration.risk import allowed_above, minimum_units, promise
from probes.spec import default_layers
from stopper.cli import build_app
from tests.documents import PAGES, ROOT, blocks, commands_in, name_of, one_line, prose, words_of

ROOMS = ("adapters", "benchmarks", "calibration", "deploy", "docs", "examples", "probes", "stopper",
         "tests")  # fmt: skip
PATH = re.compile(
    rf"(?:{'|'.join(ROOMS)})(?:/[\w.*-]+)*/?|[\w-]+\.(?:md|toml|cff)|Makefile|LICENSE"
)

every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@functools.cache
def program() -> Any:
    """Return the command line as typer builds it."""
    return typer.main.get_command(build_app())


def lines_of(page: Path, program: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of a program in the page's commands."""
    for block in blocks(page):
        for command in commands_in(block):
            yield from words_of(command, program)


def every_line(program: str) -> list[Any]:
    return [
        pytest.param(words, id=f"{name_of(page)}:{one_line(' '.join(words))[:60]}")
        for page in PAGES
        for words in lines_of(page, program)
    ]


def slug(heading: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.strip().replace(" ", "-")


@every_page
def test_every_path_in_backticks_exists(page: Path) -> None:
    named = [text for text in re.findall(r"`([^`\n]+)`", prose(page)) if PATH.fullmatch(text)]
    named = [
        text for text in named if "/" in text or "." in text or text in ("Makefile", "LICENSE")
    ]
    assert [text for text in named if not any(ROOT.glob(text.rstrip("/")))] == []


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        headings = re.findall(r"^#+ (.+)$", prose(file), re.MULTILINE) if anchor else []
        if not file.exists() or (anchor and anchor not in map(slug, headings)):
            lost.append(target)
    assert lost == []


def test_there_is_something_to_check() -> None:
    assert len(every_line("stopper")) >= 10
    assert len(every_line("vllm")) >= 2


@pytest.mark.parametrize("words", every_line("stopper"))
def test_every_stopper_command_parses(words: list[str]) -> None:
    group = program()
    command = group.commands[words[0]]
    while hasattr(command, "commands"):  # a group of commands, such as `stopper keys`
        words = words[1:]
        command = command.commands[words[0]]
    # Parses names, types and required options, without running the command.
    assert command.make_context(words[0], words[1:]).params


@every_page
def test_every_option_named_in_the_text_exists(page: Path) -> None:
    group = program()
    unknown = []
    for text in re.findall(r"`stopper ([^`\n]+)`", prose(page)):
        name, *rest = text.split()
        command = group.commands.get(name)
        while rest and hasattr(command, "commands"):  # a group of commands
            name, *rest = rest
            command = command.commands.get(name)
        if command is None:
            unknown.append(text)
            continue
        known = {option for parameter in command.params for option in parameter.opts}
        unknown += [word for word in rest if word.startswith("--") and word not in known]
    assert unknown == []


@pytest.mark.parametrize("words", every_line("vllm"))
def test_every_plugin_setting_in_a_command_is_accepted(words: list[str]) -> None:
    assert words[0] == "serve"
    given = json.loads(words[words.index("--additional-config") + 1])
    assert PluginSettings.from_additional_config(given) is not None


@pytest.fixture(scope="module")
def vllm_parser() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what vLLM imports
        from vllm.entrypoints.launchers.cli_args import make_arg_parser
        from vllm.utils.argparse_utils import FlexibleArgumentParser

    return make_arg_parser(FlexibleArgumentParser())


@pytest.mark.parametrize("words", every_line("vllm"))
def test_every_vllm_command_is_read_by_its_own_parser(words: list[str], vllm_parser: Any) -> None:
    found = vllm_parser.parse_args(words[1:])
    assert found.model_tag == words[1]


@every_page
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`(?:\w+=\w+ )?make ([a-z-]+)", prose(page)))
    named |= {words[0] for words in lines_of(page, "make")}
    assert named <= targets


def test_request_options_in_the_readme_are_accepted() -> None:
    bodies = re.findall(r'"vllm_xargs": (\{[^}]*\})', (ROOT / "README.md").read_text())
    modes = {RequestOptions.from_extra_args(json.loads(body)).mode for body in bodies}
    assert modes == {"off", "stop", "audit"}


def test_the_plugin_page_names_every_setting() -> None:
    text = (ROOT / "docs" / "vllm.md").read_text()
    tracker = get_args(PluginSettings.model_fields["tracker"].annotation)
    wanted = [*PluginSettings.model_fields, *(json.dumps(choice) for choice in tracker)]
    assert [name for name in wanted if f"`{name}`" not in text] == []


def test_the_plugin_page_names_every_field_and_reason_of_a_decision() -> None:
    text = (ROOT / "docs" / "vllm.md").read_text()
    fields = re.findall(r'^ +"(\w+)":', inspect.getsource(record), re.MULTILINE)
    refused = re.findall(r'_refuse\(.*"(\w+)"', inspect.getsource(Session._admit))
    assert len(fields) >= 10
    assert len(refused) >= 4
    names = (*fields, *refused, *get_args(stop_thinking.Outcome), stop_thinking.STOPPED_BEFORE)
    assert [name for name in names if f"`{name}`" not in text] == []


def test_the_readme_quotes_the_promise() -> None:
    said = promise("disagree", 0.05, "ltt", 0.9, 500).replace("500", "n").replace("0.05", "alpha")
    quoted = " ".join(re.sub(r"^> ?", "", prose(ROOT / "README.md"), flags=re.MULTILINE).split())
    assert said in quoted


def test_the_table_of_smallest_numbers_is_right() -> None:
    text = (ROOT / "docs" / "quickstart.md").read_text()
    for title, method, confidence in (
        ("`ltt`, 0.9 (default)", "ltt", 0.9),
        ("`ltt`, 0.95", "ltt", 0.95),
        ("`crc`", "crc", 0.9),
    ):
        row = [minimum_units(method, alpha, confidence) for alpha in (0.10, 0.05, 0.03, 0.02, 0.01)]
        assert f"| {title} | {' | '.join(map(str, row))} |" in text


def test_the_table_of_how_many_prompts_is_right() -> None:
    text = (ROOT / "docs" / "own-model.md").read_text()
    for alpha in (0.10, 0.05, 0.02, 0.01):
        least = minimum_units("ltt", alpha, 0.9)
        none = allowed_above(least, alpha, "ltt", 0.9)
        some = allowed_above(10 * least, alpha, "ltt", 0.9)
        share = f"{some} ({some / least * 10:.1f} %)"
        row = f"| {alpha:.2f} | {least} | {none} | {10 * least:,} | {share} | {25 * least:,} |"
        assert row in text


def test_the_table_of_recipes_has_the_default_layers_and_their_room() -> None:
    text = (ROOT / "docs" / "own-model.md").read_text()
    rows = re.findall(r"\| (\d+): ([\d, ]+) \| (\d+) \|$", text, re.MULTILINE)
    sizes = re.findall(r"\((\d+), (\d+)\)", text)  # blocks and width, in the command below it
    assert len(rows) == len(sizes) >= 6
    for (count, layers, room), (depth, width) in zip(rows, sizes, strict=True):
        assert count == depth
        assert layers == ", ".join(map(str, default_layers(int(count))))
        assert int(room) == len(default_layers(int(count))) * int(width) * 4 // 1024
