"""``stopper inspect``: what an artifact is and promises."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Verify an artifact and print all that it says of itself.

    Its identity, how its probe did, what it promises and at which thresholds, and where all of
    that comes from: fingerprints, engine, libraries, splits, the traffic it was calibrated on.
    """
    import json
    import math
    from datetime import UTC, datetime

    from rich.console import Console

    from stopper import cards, provenance
    from stopper.artifact import Artifact, expiry
    from stopper.comparison import unservable
    from stopper.manifest import SCHEMA_VERSION
    from stopper.policy import StopPolicy

    loaded = Artifact.load(artifact, allow_expired=True)
    manifest = loaded.manifest
    expired = manifest.expired(datetime.now(UTC))
    policy = StopPolicy.from_artifact(loaded) if unservable(loaded) is None else None
    if as_json:
        fields = json.loads(manifest.model_dump_json())
        fields["expired"] = expired
        fields["splits"] = provenance.split_sizes(loaded.splits)
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
    for table in provenance.provenance_tables(loaded):
        console.print(table)
    if expired:
        typer.echo(f"{artifact}: {expiry(manifest, artifact)}")
    if manifest.schema_version != SCHEMA_VERSION:
        typer.echo(
            f"Schema {manifest.schema_version} is an older one: `stopper upgrade {artifact}` "
            "rewrites it and says what stays unknown."
        )
