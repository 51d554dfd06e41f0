"""``stopper diffusion presets``: the papers' hand-picked settings."""

from __future__ import annotations

from typing import Annotated

import typer


def presets(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the papers' settings by name; none of them keeps a promise."""
    import json

    from rich import box
    from rich.console import Console
    from rich.table import Table

    from stopper.halting import NO_GUARANTEE, PRESETS

    if as_json:
        found = {name: rule.to_json() for name, rule in PRESETS.items()}
        typer.echo(json.dumps({"guarantee": None, "presets": found}, indent=2))
        return
    table = Table(title=NO_GUARANTEE, box=box.SIMPLE, pad_edge=False)
    for name in ("preset", "kind", "high", "low", "rate", "signal", "gate"):
        table.add_column(name, no_wrap=True)
    for name, rule in PRESETS.items():
        shape = rule.schedule
        rate = f"{shape.rate:g}" if shape.kind == "exponential" else "-"
        gate = "stable argmax" if rule.stable_argmax else "-"
        table.add_row(
            name, shape.kind, f"{shape.high:g}", f"{shape.low:g}", rate, rule.signal, gate
        )
    Console().print(table)
