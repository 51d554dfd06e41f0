"""The whole command line, from the program itself."""

from __future__ import annotations

import enum
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import ParameterInfo

from docs.generators.markdown import code, fence, linked, plain, table, value
from stopper.cli import build_app

PROGRAM = "stopper"


@dataclass(frozen=True)
class Command:
    """A command: its words, the function behind it, and what typer made of it."""

    words: tuple[str, ...]
    function: Callable[..., Any]
    built: Any

    @property
    def name(self) -> str:
        """The command as typed."""
        return " ".join((PROGRAM, *self.words))


def blocks() -> Iterator[str]:
    """Give the page's blocks."""
    found = commands()
    yield "# Command line"
    yield (
        "All commands of `stopper`. Each exits with 0, with 2 where what you gave is wrong (one "
        "line says what, and the remedy), and with 1 where a check failed or stopper itself did."
    )
    yield table(
        ("command", ""),
        ((f"[`{it.name}`](#{'-'.join((PROGRAM, *it.words))})", _first_line(it)) for it in found),
    )
    for command in found:
        yield from _command(command)


@functools.cache
def commands() -> tuple[Command, ...]:
    """Return every command in the order of `stopper --help`, those of groups with both words."""
    app = build_app()
    return tuple(_walk(app, typer.main.get_command(app), ()))


def _walk(app: typer.Typer, group: Any, words: tuple[str, ...]) -> Iterator[Command]:
    functions: dict[str, Callable[..., Any]] = {}
    for one in app.registered_commands:
        assert one.callback is not None
        functions[one.name or one.callback.__name__.replace("_", "-")] = one.callback
    inner = {one.name: one.typer_instance for one in app.registered_groups}
    for name, built in group.commands.items():
        if name in functions:
            yield Command((*words, name), functions[name], built)
        else:
            part = inner[name]
            assert part is not None
            yield from _walk(part, built, (*words, name))


def _first_line(command: Command) -> str:
    return linked(plain(_paragraphs(command)[0]))


def _paragraphs(command: Command) -> list[str]:
    text = command.built.help or inspect.getdoc(command.function) or ""
    return [" ".join(part.split()) for part in text.split("\n\n")]


def _command(command: Command) -> Iterator[str]:
    hints = typing.get_type_hints(command.function, include_extras=True)
    arguments = [p for p in command.built.params if p.param_type_name == "argument"]
    options = [p for p in command.built.params if p.param_type_name == "option"]
    yield f"## {command.name}"
    words = [command.name, *map(_shown, arguments)]
    words += [f"{p.opts[0]} {_kind(p, hints)}".rstrip() for p in options if p.required]
    if any(not p.required for p in options):
        words.append("[OPTIONS]")
    yield fence("text", " ".join(words))
    yield from (linked(plain(text)) for text in _paragraphs(command))
    if arguments:
        yield table(
            ("argument", "value", ""),
            (
                (code(_shown(p)), code(_kind(p, hints)), linked(plain(p.help or "")))
                for p in arguments
            ),
        )
    shown = [p for p in options if not p.hidden]
    if shown:
        yield table(("option", "value", "default", ""), (_option(p, hints) for p in shown))


def _shown(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper().strip("[]{}")
    name += "..." if argument.nargs == -1 else ""
    return name if argument.required else f"[{name}]"


def _option(option: Any, hints: dict[str, Any]) -> tuple[str, str, str, str]:
    names = ", ".join(map(code, (*option.opts, *option.secondary_opts)))
    default = "**required**" if option.required else _default(option)
    text = linked(plain(option.help or ""))
    if option.envvar:
        text += f" Variable: {code(str(option.envvar))}."
    if _repeated(hints[option.name]) and "repeatable" not in text:
        text += " Repeatable."
    return names, code(_kind(option, hints)), default, text


def _default(option: Any) -> str:
    given = option.default
    if callable(given) or given in (None, (), []) or option.show_default is False:
        return ""
    if isinstance(given, bool):
        return _flag_default(option, given)
    return value(given.value if isinstance(given, enum.Enum) else given)


def _flag_default(option: Any, given: bool) -> str:
    if given:
        return code(option.opts[0])
    return code(option.secondary_opts[0]) if option.secondary_opts else ""


def _kind(parameter: Any, hints: dict[str, Any]) -> str:
    """Return what a parameter takes: its metavar, its choices, or its type with bounds."""
    hint, info = hints[parameter.name], None
    if typing.get_origin(hint) is Annotated:
        hint, *extras = typing.get_args(hint)
        info = next((extra for extra in extras if isinstance(extra, ParameterInfo)), None)
    base = _base(hint)
    if info is not None and info.metavar:
        return info.metavar
    if base is bool:
        return ""
    if issubclass(base, enum.Enum):
        return "|".join(str(choice.value) for choice in base)
    if issubclass(base, Path):
        return "PATH"
    bounds = "" if info is None else _bounds(info.min, info.max)
    return {int: "INTEGER", float: "NUMBER"}.get(base, "TEXT") + bounds


def _bounds(lowest: float | None, highest: float | None) -> str:
    if lowest is None and highest is None:
        return ""
    if highest is None:
        return f" >= {lowest}"
    return f" <= {highest}" if lowest is None else f" in [{lowest}, {highest}]"


def _repeated(hint: Any) -> bool:
    if typing.get_origin(hint) is Annotated:
        hint = typing.get_args(hint)[0]
    parts = typing.get_args(hint) if _is_union(hint) else (hint,)
    return any(typing.get_origin(part) is list for part in parts)


def _base(hint: Any) -> type:
    """Return the class of one value: of `list[str] | None` it is str."""
    if _is_union(hint):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) in (list, tuple):
        hint = typing.get_args(hint)[0]
    assert isinstance(hint, type)
    return hint


def _is_union(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
