"""``stopper diffusion``: halting the denoising of diffusion language models, with a promise."""

from __future__ import annotations

from importlib.metadata import entry_points

import typer

from stopper.commands.diffusion.calibrate import calibrate
from stopper.commands.diffusion.evaluate import evaluate
from stopper.commands.diffusion.presets import presets
from stopper.commands.diffusion.report import report

GROUP = "stopper.diffusion_commands"
"""Entry-point group of the subcommands that need an engine, as ``stopper.commands`` is."""

app = typer.Typer(
    help="Halt the denoising of diffusion LMs: record, calibrate, evaluate, compare.",
    no_args_is_help=True,
)
for _command in (calibrate, evaluate, presets, report):
    app.command()(_command)


def _mount() -> None:
    from stopper.cli import add_entry

    for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        add_entry(app, entry)


_mount()
