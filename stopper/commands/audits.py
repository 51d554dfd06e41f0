"""``stopper audits``: write the audits that recorded traces would have been."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer


def audits(
    artifact: Annotated[Path, typer.Argument(help="Calibrated artifact folder.")],
    out: Annotated[Path, typer.Option(help="Log of audits to write.", metavar="FILE")],
    scores: Annotated[
        list[Path] | None,
        typer.Option(
            help="Your own scores, one trace a line; repeatable: one after the other.",
            metavar="FILE",
        ),
    ] = None,
    traces: Annotated[
        Path | None,
        typer.Option(help="Trace store of `stopper collect`; used groups are set aside."),
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="That the requests asked for. Default: as calibrated.")
    ] = None,
    begin: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%S"],
            help="Time of the first audit, UTC; the others follow by one second. Default: the "
            "artifact's creation.",
        ),
    ] = None,
) -> None:
    """Turn recorded traces into a log of audits, to try `stopper monitor` on.

    A trace is marked where the artifact's rule would stop it; its loss compares the answer forced
    there with the full one. With several --scores the second file can be other traffic: a shift.
    """
    # Imported here: `stopper --help` and the other commands need none of it.
    from datetime import UTC, timedelta
    from itertools import chain

    from rich.console import Console

    from calibration.monitor import write_audits
    from calibration.scores import load_scores
    from stopper import auditing, calibrating
    from stopper.artifact import Artifact
    from stopper.commands._tables import note
    from stopper.errors import InputError

    if bool(scores) == (traces is not None):
        raise InputError(
            "give either --scores FILE.jsonl (repeatable) or --traces FOLDER (traces of `stopper "
            "collect`)" + (", not both" if scores else "")
        )
    loaded = Artifact.load(artifact)
    auditing.servable_record(loaded, artifact)
    if traces is not None:
        made_of = (*calibrating.FITTED, calibrating.CALIBRATED)
        chosen = calibrating.choose_traces(loaded, traces, made_of)
        for name, count in chosen.used.items():
            note(f"set aside {count} groups of the artifact's split '{name}'")
        for remark in chosen.notes:
            note(remark)
        tables = [chosen.table]
    else:
        tables = [load_scores(path) for path in scores or []]
    start = begin.replace(tzinfo=UTC) if begin else loaded.manifest.created
    parts, seen = [], set[str]()
    for table in tables:
        repeated = seen.intersection(table.trace_ids)
        if repeated:
            raise InputError(
                f"trace_id {min(repeated)!r} is in two of the --scores files; a request is one "
                "audit. Give every trace its own trace_id"
            )
        seen.update(table.trace_ids)
        parts.append(auditing.traces_as_audits(table, loaded, artifact, alpha, start))
        start += timedelta(seconds=len(table))
    written = write_audits(out, chain.from_iterable(parts))
    Console().print(
        f"Wrote {written} audits to {out}. Next: stopper monitor {out} --artifact {artifact}",
        soft_wrap=True,
        highlight=False,
    )
