"""The command line, built from ``stopper/commands`` and entry points: nothing imports upwards."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, NoReturn

import typer

import stopper.commands
from stopper import __version__
from stopper.errors import StopperError, UnsupportedError
from stopper.extras import remedy

GROUP = "stopper.commands"
"""Entry-point group: the name is the command's, the value a plain function typed for typer."""

_HELP = "Ends the thinking of reasoning models at the right moment, with a promise per request."


def build_app() -> typer.Typer:
    """Assemble all commands.

    A module of ``stopper.commands`` contributes its ``app`` (a typer app, mounted under the
    module's name) or else the function that carries the module's name. An entry point contributes
    one function. A command that cannot be imported is listed with its error and fails only itself.
    """
    app = typer.Typer(
        help=_HELP,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_root)
    for module in sorted(pkgutil.iter_modules(stopper.commands.__path__), key=lambda m: m.name):
        if not module.name.startswith("_"):
            _add_module(app, module.name)
    for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        add_entry(app, entry)
    return app


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; the process exits 0, 1 (a bug: traceback), or 2 (your input)."""
    command = typer.main.get_command(build_app())
    try:
        command.main(args=None if argv is None else list(argv), prog_name="stopper")
    except StopperError as problem:
        # One line and no traceback: the message itself says what to mend.
        _refuse(str(problem))
    except ModuleNotFoundError as missing:
        sentence = remedy(missing)
        if sentence is None:  # none of our extras: a bug, or another package's
            raise
        _refuse(sentence)
    sys.exit(0)


def _refuse(sentence: str) -> NoReturn:
    print(f"stopper: error: {sentence}", file=sys.stderr)  # noqa: T201
    sys.exit(2)


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    if version:
        typer.echo(f"stopper {__version__}")
        raise typer.Exit


def _add_module(app: typer.Typer, name: str) -> None:
    try:
        module = importlib.import_module(f"stopper.commands.{name}")
    except Exception as problem:  # any import error: the other commands must stay usable
        _add_broken(app, name, f"stopper.commands.{name}", problem)
        return
    if isinstance(getattr(module, "app", None), typer.Typer):
        app.add_typer(module.app, name=name)
    else:
        app.command(name)(getattr(module, name))


def add_entry(app: typer.Typer, entry: EntryPoint) -> None:
    """Add the command of an entry point; one that cannot be loaded fails only itself."""
    try:
        function = entry.load()
        if not callable(function):
            raise TypeError(f"{entry.value} is no function")
    except Exception as problem:  # any import error: the other commands must stay usable
        _add_broken(app, entry.name, entry.value, problem)
        return
    app.command(entry.name)(function)


def _add_broken(app: typer.Typer, name: str, source: str, problem: Exception) -> None:
    cause = f"{type(problem).__name__}: {problem}".splitlines()[0]

    def broken() -> None:
        raise UnsupportedError(
            f"the command {name!r} ({source}) cannot be loaded: {cause}. Install what it needs, or "
            "reinstall its package; `stopper doctor` looks for more"
        )

    anything = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(name, help=f"(unavailable: {cause})", context_settings=anything)(broken)
