"""``stopper replay``: what the engine would have decided on recorded traces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def replay(
    artifact: Annotated[Path, typer.Argument(help="Calibrated artifact folder.")],
    traces: Annotated[
        Path, typer.Argument(help="Trace store of `stopper collect`, or a file of your own scores.")
    ],
    alpha: Annotated[
        float | None,
        typer.Option(help="Share that may be stopped badly. Default: as calibrated."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Replay only so many traces, the first ones.", min=1)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write one JSON line a trace.", metavar="FILE")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the summary as JSON.", metavar="FILE")
    ] = None,
) -> None:
    """Decide each trace as the engine would: where it stops, why, and whether that is good.

    Needs no labels: without them stops are "unknown". To judge a rule, use `stopper evaluate`,
    which sets aside the prompts that the artifact was made of; this command only counts them.
    """
    # Imported here: `stopper --help` and the other commands need none of it.
    import json
    from contextlib import ExitStack
    from datetime import UTC, datetime
    from itertools import islice

    from rich.console import Console
    from tqdm import tqdm

    from calibration.files import replacing
    from calibration.splits import PROMPTS
    from calibration.store_files import META
    from stopper import replaying
    from stopper.artifact import Artifact, expiry
    from stopper.commands._life import replay_table
    from stopper.commands._tables import note
    from stopper.errors import ArtifactError, InputError
    from stopper.leakage import used_groups
    from stopper.policy import StopPolicy

    loaded = Artifact.load(artifact, allow_expired=True)
    if loaded.manifest.expired(datetime.now(UTC)):
        note(f"WARNING: {artifact} {expiry(loaded.manifest, artifact)}")
    try:
        policy = StopPolicy.from_artifact(loaded)
    except ArtifactError as problem:
        raise ArtifactError(f"{artifact}: {problem}") from None
    record = loaded.manifest.calibration
    assert record is not None
    share = record.alpha if alpha is None else alpha
    policy.threshold(share)  # refuses a wrong alpha before anything is read
    if (traces / META).exists() or (traces.is_dir() and not any(traces.glob("*.parquet"))):
        source = replaying.stored_traces(loaded, traces)
    else:
        source = replaying.given_traces(traces)
    summary, groups = replaying.Summary(), dict[str, None]()
    with ExitStack() as stack:
        file = None if out is None else stack.enter_context(replacing(out))
        found = replaying.replay(policy, share, record.loss, islice(source, limit))
        for one in tqdm(found, desc="replaying", unit="trace", leave=False):
            summary.add(one)
            groups[one.group] = None
            if file is not None:
                file.write((json.dumps(one.to_json(), ensure_ascii=False) + "\n").encode())
        if not summary.traces:
            raise InputError(f"{traces}: holds no traces")
    splits = [name for name in loaded.splits if not name.endswith(PROMPTS)]
    used = used_groups(loaded, groups, splits)
    if used:
        note(
            f"{len(used)} of {len(groups)} groups made this artifact: how often it errs on them "
            "says nothing about new requests"
        )
    Console().print(replay_table(summary, share, float(policy.threshold(share)), record.loss))
    if json_file is not None:
        figures = {"alpha": share, "loss": record.loss, **summary.to_json()}
        with replacing(json_file) as target:
            target.write((json.dumps(figures, indent=2, allow_nan=False) + "\n").encode())
    for path in (out, json_file):
        if path is not None:
            typer.echo(f"Wrote {path}")
