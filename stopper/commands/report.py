"""``stopper report``: one page that shows what an artifact promises and what it did."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stopper.commands._options import DropLeaked, Scores, Traces


def report(
    artifact: Annotated[Path, typer.Argument(help="Calibrated artifact folder.")],
    out: Annotated[
        Path, typer.Option(help="Folder for report.html and the plots.", metavar="FOLDER")
    ],
    scores: Scores = None,
    traces: Traces = None,
    alpha: Annotated[
        list[float] | None,
        typer.Option(
            help="Share that may be stopped badly; repeatable, the first is the headline's. "
            "Default: as calibrated."
        ),
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(help="Further rules to show: what a comparison wrote.", metavar="FILE"),
    ] = None,
    baselines: Annotated[
        Path | None,
        typer.Option(help="Baselines to show: what they wrote.", metavar="FILE"),
    ] = None,
    drop_leaked: DropLeaked = False,
) -> None:
    """Write one self-contained page for people, and its plots as PNG files.

    The page needs no network and no script: the promise in plain words, whether it was kept, what
    was saved, where it stops, the scores, the traffic, a breakdown, provenance, a glossary.
    """
    # Imported here: `stopper --help` and the other commands need none of it.
    from rich.console import Console

    from calibration.page.report import make_report, write_report
    from calibration.page.rows import Rival, read_rows
    from calibration.report import Evaluator
    from calibration.scores import load_scores
    from calibration.splits import require_disjoint
    from probes.errors import InputError
    from probes.validation import read_json
    from stopper import calibrating
    from stopper.artifact import MANIFEST, Artifact
    from stopper.commands._tables import note
    from stopper.reporting import origin_of

    source = calibrating.choose_source(scores, traces)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; give a folder for the page and its plots")
    loaded = Artifact.load(artifact, allow_expired=True)
    rule = calibrating.rule_of(loaded)
    if loaded.manifest.calibration is not None and not alpha:
        alpha = [loaded.manifest.calibration.alpha]
    asked = list(dict.fromkeys(alpha or []))
    for share in asked:
        rule.threshold(share)  # refuses a wrong or unaffordable alpha before anything is read
    others: list[Rival] = []
    notes: list[str] = []
    for path, command in ((rules, "compare"), (baselines, "baselines")):
        if path is not None:
            rows, left_out = read_rows(path, asked[0], rule.loss, command)
            others += rows
            notes += left_out
    made_of = (*calibrating.FITTED, calibrating.CALIBRATED)
    if scores is not None:
        table = load_scores(source)
        known = {name: loaded.splits[name] for name in made_of if name in loaded.splits}
        require_disjoint(table.groups, known, "Leave them out of the file")
    else:
        chosen = calibrating.choose_traces(loaded, source, made_of, drop_leaked=drop_leaked)
        table = chosen.table
        notes += chosen.notes
        for name, count in chosen.used.items():
            notes.append(f"set aside {count} groups of the artifact's split '{name}'")
    for remark in notes:
        note(remark)
    evaluator = Evaluator(table, rule, source=str(source))
    origin = origin_of(
        loaded,
        title=artifact.resolve().name,
        source=source.name,
        alpha=asked[0],
        command=_command(artifact, out, scores, traces, asked, rules, baselines, drop_leaked),
        notes=notes,
        digest=read_json((artifact / MANIFEST).read_bytes()).get("digest"),
    )
    profile = loaded.manifest.profile
    found = make_report(evaluator, asked, origin, profile=profile, others=others)
    with Console(stderr=True).status("drawing"):
        files = write_report(found, out)
    console = Console()
    console.print(found.verdict.headline + ".", soft_wrap=True, highlight=False)
    console.print(found.verdict.sentence, soft_wrap=True, highlight=False, markup=False)
    console.print(f"Wrote {files[0]} and {len(files) - 1} plots", soft_wrap=True, highlight=False)


def _command(
    artifact: Path,
    out: Path,
    scores: Path | None,
    traces: Path | None,
    alphas: list[float],
    rules: Path | None,
    baselines: Path | None,
    drop_leaked: bool,
) -> list[str]:
    """Spell the command that makes this report, as its words."""
    options = {"--scores": scores, "--traces": traces, "--rules": rules, "--baselines": baselines}
    words = ["stopper", "report", str(artifact), "--out", str(out)]
    for name, value in options.items():
        words += [] if value is None else [name, str(value)]
    for alpha in alphas:
        words += ["--alpha", f"{alpha:g}"]
    return [*words, "--drop-leaked"] if drop_leaked else words
