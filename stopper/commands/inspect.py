"""``stopper inspect``: what an artifact is and promises."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Verify an artifact and print its card."""
    import json
    import math
    from datetime import UTC, datetime

    from rich.console import Console

    from stopper import cards
    from stopper.artifact import Artifact, read_manifest
    from stopper.policy import StopPolicy

    manifest = read_manifest(artifact)
    expired = manifest.expired(datetime.now(UTC))
    # An expired artifact may still be looked at: judge it at the time when it was made.
    loaded = Artifact.load(artifact, now=manifest.created)
    record = manifest.calibration
    servable = record is not None and record.method != "lynx"
    policy = StopPolicy.from_artifact(loaded) if servable else None
    if as_json:
        fields = json.loads(manifest.model_dump_json())
        fields["expired"] = expired
        if policy is not None:
            # Infinities as in the manifest: JSON has no literal for them.
            spelled = {math.inf: "Infinity", -math.inf: "-Infinity"}
            found = cards.thresholds(policy).items()
            fields["thresholds"] = {f"{alpha:g}": spelled.get(x, x) for alpha, x in found}
        typer.echo(json.dumps(fields, indent=2, ensure_ascii=False))
        return
    console = Console()
    console.print(cards.card(manifest, expired))
    for table in cards.training_tables(manifest):
        console.print(table)
    calibration = cards.calibration_table(manifest)
    if calibration is None:
        console.print("Not calibrated: run `stopper calibrate` on it before serving.")
    else:
        console.print(calibration)
    if policy is not None:
        console.print(cards.threshold_table(policy))
