"""``stopper context``: drop the sentences of documents that cannot help, with a promise."""

from __future__ import annotations

import typer

from stopper.commands.context.calibrate import calibrate
from stopper.commands.context.evaluate import evaluate
from stopper.commands.context.train import train

app = typer.Typer(
    help="Drop sentences of retrieved documents: train, calibrate, evaluate.",
    no_args_is_help=True,
)
for _command in (train, calibrate, evaluate):
    app.command()(_command)
