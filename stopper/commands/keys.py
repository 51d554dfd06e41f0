"""``stopper keys``: API keys of the sidecar."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make, list and revoke API keys of the sidecar.", no_args_is_help=True)

KeyFile = Annotated[Path, typer.Option("--file", help="The file of keys.", metavar="FILE")]


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is; shown in logs.")],
    scope: Annotated[
        list[str], typer.Option(help="What it may do: read, decide or admin; repeatable.")
    ],
    file: Annotated[
        Path | None,
        typer.Option("--file", help="Add it here; without, the block is printed.", metavar="FILE"),
    ] = None,
) -> None:
    """Make a key and show it once; only its hash is kept.

    With --file the key is printed and its hash added to the file. Without, the key goes to
    standard error and the block for the file to standard output.
    """
    from stopper.errors import InputError
    from stopper.service.key_file import new_key, read_keys, to_toml, write_keys

    key, kept = new_key(name, scope)
    if file is None:
        typer.echo(f"Key (shown once): {key}", err=True)
        typer.echo(to_toml(kept).strip())
        return
    before = read_keys(file) if file.exists() else ()
    if any(name == old.name for old in before):
        raise InputError(f"{file}: has a key {name!r} already; revoke it, or choose another name")
    write_keys(file, (*before, kept))
    typer.echo(f"Added {name} to {file}. The key, shown once:", err=True)
    typer.echo(key)


@app.command("list")
def list_(file: KeyFile) -> None:
    """List names, scopes and dates."""
    from stopper.service.key_file import read_keys

    for key in read_keys(file):
        typer.echo(f"{key.name}  {','.join(sorted(key.scopes))}  {key.created}")


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="The key to take away.")], file: KeyFile
) -> None:
    """Take a key away; running sidecars see it within about a second."""
    from stopper.errors import InputError
    from stopper.service.key_file import read_keys, write_keys

    before = read_keys(file)
    kept = [key for key in before if key.name != name]
    if len(kept) == len(before):
        raise InputError(f"{file}: there is no key {name!r}")
    write_keys(file, kept)
    typer.echo(f"Revoked {name}.")
