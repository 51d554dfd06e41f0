"""``stopper scripted``: a server that behaves like vLLM with stopper in it, from a script."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def scripted(
    script: Annotated[
        Path | None,
        typer.Argument(help="Script, TOML or JSON; the built-in one if none.", metavar="[SCRIPT]"),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8000,
    sidecar: Annotated[
        str | None, typer.Option(help="Sidecar that decides at the cues.", metavar="URL")
    ] = None,
    sidecar_model: Annotated[
        str | None, typer.Option(help="The model's name there; the script's if none.")
    ] = None,
    sidecar_key: Annotated[
        str | None, typer.Option(help="API key of the sidecar.", envvar="STOPPER_API_KEY")
    ] = None,
    deadline_ms: Annotated[
        float, typer.Option(help="For a decision of the sidecar; late means continue.")
    ] = 50.0,
    check: Annotated[bool, typer.Option("--check", help="Check the script and end.")] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Print the built-in script, to begin from, and end.")
    ] = False,
) -> None:
    """Serve a script as if it were a reasoning model: cues, stops, faults on demand, no GPU.

    docs/scripted.md describes scripts and faults.
    """
    import uvicorn
    from rich.console import Console

    from stopper.scripted import create_app, default_script, default_text, read_script
    from stopper.scripted.remote import sidecar_at

    console = Console(soft_wrap=True, highlight=False, markup=False)
    if show:
        console.print(default_text(), end="")
        return
    read = default_script() if script is None else read_script(script)
    cues = sum(piece.cue is not None for trace in read.traces for piece in trace.pieces)
    console.print(f"{len(read.traces)} traces with {cues} cues, served as {read.model!r}")
    if check:
        return
    decider = None
    if sidecar is not None:
        decider = sidecar_at(
            sidecar, sidecar_model or read.model, api_key=sidecar_key, deadline_s=deadline_ms / 1000
        )
    uvicorn.run(create_app(read, sidecar=decider), host=host, port=port)
