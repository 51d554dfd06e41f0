"""``stopper evaluate``: replay an artifact's rule and its rivals over held-out traces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stopper.commands._options import DropLeaked, FiguresFile, Scores, Traces


def evaluate(
    artifact: Annotated[Path, typer.Argument(help="Calibrated artifact folder.")],
    scores: Scores = None,
    traces: Traces = None,
    alpha: Annotated[
        list[float] | None,
        typer.Option(help="Share that may be stopped badly; repeatable. Default: as calibrated."),
    ] = None,
    json_file: FiguresFile = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw tokens, accuracy and risk over alpha as PNG.", metavar="FILE"),
    ] = None,
    include_used: Annotated[
        bool,
        typer.Option(
            "--include-used",
            help="Evaluate also on groups that made the artifact (too good to be true).",
        ),
    ] = False,
    drop_leaked: DropLeaked = False,
) -> None:
    """Replay the rules on traces that nothing was fitted to: tokens, accuracy, bad stops.

    Compared: the full trace, the artifact's rule, a token budget of the same mean tokens, the
    per-cue baselines, and the oracle that stops at the first good cue. With several --alpha the
    first is shown in full, the others in a second table.
    """
    # Imported here: `stopper --help` and the other commands need none of it.
    import json
    from datetime import UTC, datetime

    from rich.console import Console

    from calibration.files import replacing
    from calibration.report import PLOT_ALPHAS, Evaluator
    from calibration.scores import load_scores
    from calibration.splits import require_disjoint
    from stopper import calibrating
    from stopper.artifact import Artifact, expiry
    from stopper.commands._tables import alphas_table, note, rules_table, verdict
    from stopper.leakage import used_groups

    source = calibrating.choose_source(scores, traces)
    loaded = Artifact.load(artifact, allow_expired=True)
    if loaded.manifest.expired(datetime.now(UTC)):
        note(f"WARNING: {artifact} {expiry(loaded.manifest, artifact)}")
    rule = calibrating.rule_of(loaded)
    if loaded.manifest.calibration is not None and not alpha:
        alpha = [loaded.manifest.calibration.alpha]
    asked = list(dict.fromkeys(alpha or []))
    for share in asked:
        rule.threshold(share)  # refuses a wrong or unaffordable alpha before anything is read
    made_of = (*calibrating.FITTED, calibrating.CALIBRATED)
    if scores is not None:
        table = load_scores(source)
        if include_used:
            leaked = used_groups(loaded, table.groups, made_of)
            if leaked:
                note(f"WARNING: {len(leaked)} groups made the artifact: too good to be true")
        else:
            known = {name: loaded.splits[name] for name in made_of if name in loaded.splits}
            require_disjoint(table.groups, known, "Leave them out, or insist with --include-used")
    else:
        chosen = calibrating.choose_traces(
            loaded, source, made_of, insist=include_used, drop_leaked=drop_leaked
        )
        table = chosen.table
        for remark in chosen.notes:
            note(remark)
        for name, count in chosen.used.items():
            if include_used:
                note(f"WARNING: {count} groups are from the split '{name}': too good to be true")
            else:
                note(f"set aside {count} groups of the artifact's split '{name}'")
    evaluator = Evaluator(table, rule, source=str(source))
    evaluations = [evaluator.at(share) for share in asked]
    first = evaluations[0]

    console = Console()
    console.print(rules_table(first))
    if len(evaluations) > 1:
        console.print(alphas_table(evaluations))
    console.print(verdict(first), soft_wrap=True, highlight=False)
    if first.n_groups < first.n_test:
        note(
            f"{first.n_test} traces of {first.n_groups} groups: the interval allows for rollouts "
            "of one group being alike"
        )
    if first.stopped.extra_tokens:
        note(
            f"beside the thinking, the rule '{first.rule}' generates "
            f"{first.stopped.extra_tokens:.1f} tokens a trace to decide; they count as not saved"
        )
    if first.score_auroc is None:
        note("all test cues are of one class: nothing tells how well the scores separate")
    if json_file is not None:
        report = first.to_json()
        if len(evaluations) > 1:
            report["alphas"] = [evaluation.to_json() for evaluation in evaluations]
        with replacing(json_file) as file:
            text = json.dumps(report, indent=2, allow_nan=False)
            file.write((text + "\n").encode())
        console.print(f"Wrote {json_file}", soft_wrap=True, highlight=False)
    if plot is not None:
        from calibration.plots import plot_evaluations

        more = [a for a in PLOT_ALPHAS if len(asked) == 1 and a not in asked and rule.carries(a)]
        title = f"{artifact.name}: loss '{rule.loss}'"
        plot_evaluations([*evaluations, *map(evaluator.at, more)], plot, title)
        console.print(f"Wrote {plot}", soft_wrap=True, highlight=False)
