"""``stopper monitor``: replay a log of audits and say whether the promise still holds."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

ALARM_EXIT_CODE = 3


class EvidenceMethod(StrEnum):
    """Sequential tests."""

    betting = "betting"
    mapie = "mapie"


def monitor(
    audits: Annotated[Path, typer.Argument(help="Log of audits, one JSON object a line.")],
    artifact: Annotated[Path, typer.Option(help="The artifact that served them.")],
    alpha: Annotated[
        float | None,
        typer.Option(help="Judge only audits of this alpha. Default: all, each by its own."),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Go on from this file (or begin one), and keep what was learned in it; audits "
            "that it has counted are left out.",
            metavar="FILE",
        ),
    ] = None,
    method: Annotated[
        EvidenceMethod,
        typer.Option(
            help="betting: early, also after a long good time. mapie: MAPIE's bound on the mean "
            "risk since the start."
        ),
    ] = EvidenceMethod.betting,
    delta: Annotated[
        float, typer.Option(help="Probability of any false alarm, however long one watches.")
    ] = 0.01,
    warning_delta: Annotated[
        float, typer.Option(help="Probability of any false profile warning, likewise.")
    ] = 0.05,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw evidence, running risk and profile as PNG.", metavar="FILE"),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the verdict as JSON.", metavar="FILE")
    ] = None,
) -> None:
    """Watch audited requests for a broken promise.

    Exit code 0: in control. 3: ALARM. 2: the log or an option is not what it should be. The alarm
    stays: with --state also in later runs, until a new artifact begins a new state.
    """
    # Imported here: `stopper --help` and the other commands need none of it.
    import json
    from collections import Counter

    from rich.console import Console
    from tqdm import tqdm

    from calibration.files import replacing
    from calibration.monitor import Monitor, read_audits, write_state
    from stopper import auditing
    from stopper.artifact import Artifact, read_manifest
    from stopper.commands._monitoring import monitor_table
    from stopper.commands._tables import note
    from stopper.errors import InputError

    created = read_manifest(artifact).created
    # An expired artifact's audits may still be looked at: judge it at the time when it was made.
    loaded = Artifact.load(artifact, now=created)
    settings = auditing.settings_for(loaded, artifact, method.value, delta, warning_delta)
    profile = loaded.manifest.profile
    watch = (
        Monitor(settings, profile) if state is None else Monitor.resume(settings, profile, state)
    )
    if profile is None:
        note(
            f"{artifact} holds no profile of its calibration traffic, so that no profile warnings "
            "are given; calibrate it again to have them"
        )
    others: Counter[str] = Counter()
    chosen = []
    for audit in tqdm(read_audits(audits), desc="audits", unit="audit", leave=False):
        if audit.artifact != settings.artifact:
            others[f"of artifact {audit.artifact}"] += 1
        elif alpha is not None and audit.alpha != alpha:
            others[f"at alpha {audit.alpha:g}"] += 1
        else:
            chosen.append(audit)
    for phrase, count in others.most_common(10):
        note(f"left out {count} audits {phrase}")
    if len(others) > 10:
        note(f"left out {sum(others.values())} audits in all, of {len(others)} kinds")
    if not chosen:
        asked = "" if alpha is None else f" at alpha {alpha:g}"
        raise InputError(
            f"{audits}: no audit of the artifact {settings.artifact} ({artifact}){asked}. Give the "
            "artifact that served them, or another --alpha"
        )
    before = watch.verdict()
    verdict = watch.update(chosen)
    if state is not None:
        write_state(state, watch.state())
        if before.audits:
            note(f"went on from {state}: {before.audits} audits were counted before")
    for count, reason in (
        (verdict.repeated - before.repeated, "counted before"),
        (verdict.late - before.late, "too old to tell whether they were counted before"),
    ):
        if count:
            note(f"left out {count} audits: {reason}")
    console = Console()
    console.print(monitor_table(verdict, watch.label))
    for warning in verdict.warnings:
        console.print(
            f"Warning since audit {warning.audits}: {warning.text}.",
            soft_wrap=True,
            highlight=False,
        )
    console.print(verdict.sentence, soft_wrap=True, highlight=False)
    if json_file is not None:
        report = {
            "artifact": settings.artifact,
            "loss_name": settings.loss_name,
            "method": settings.method,
            "delta": settings.delta,
            "warning_delta": settings.warning_delta,
            "left_out": dict(others),
            **verdict.to_json(),
        }
        with replacing(json_file) as file:
            file.write((json.dumps(report, indent=2, allow_nan=False) + "\n").encode())
        console.print(f"Wrote {json_file}", soft_wrap=True, highlight=False)
    if plot is not None:
        from calibration.monitor.plots import plot_monitor

        plot_monitor(watch, plot, f"{artifact.name}, loss '{settings.loss_name}'")
        console.print(f"Wrote {plot}", soft_wrap=True, highlight=False)
    if verdict.alarm:
        raise typer.Exit(ALARM_EXIT_CODE)
