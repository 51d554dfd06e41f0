"""``stopper compare``: every stopping rule on the same traces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stopper.commands._options import (
    Alpha,
    Confidence,
    DropLeaked,
    FiguresFile,
    LossName,
    Rollouts,
    RolloutsOption,
)
from stopper.commands._rules import (
    BonferroniCues,
    Budget,
    HopelessAfter,
    HopelessShare,
    Longest,
    LookDelta,
    LookSignal,
    options_by_rule,
)

if TYPE_CHECKING:
    from rich.table import Table

    from calibration.rules.comparison import Comparison, Contestant
    from calibration.table import CueTable
    from stopper.artifact import Artifact


def compare(
    artifacts: Annotated[
        list[Path] | None,
        typer.Argument(help="Artifacts of `stopper train` to compare; none with --scores."),
    ] = None,
    calibrate: Annotated[
        Path | None, typer.Option(help="Trace store to fit the rules on.", metavar="FOLDER")
    ] = None,
    test: Annotated[
        Path | None, typer.Option(help="Trace store to replay them on.", metavar="FOLDER")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="Your own scores to fit the rules on.", metavar="FILE")
    ] = None,
    test_scores: Annotated[
        Path | None, typer.Option(help="Your own scores to replay them on.", metavar="FILE")
    ] = None,
    loss: Annotated[LossName, typer.Option(help="What a bad stop is.")] = LossName.disagree,
    alpha: Alpha = 0.05,
    method: Annotated[
        str, typer.Option(help="ltt: holds with the confidence. crc: holds on average.")
    ] = "ltt",
    confidence: Confidence = 0.9,
    rollouts: RolloutsOption = Rollouts.one,
    rule: Annotated[
        list[str] | None,
        typer.Option(help="Only these rules; repeatable. Default: all.", metavar="NAME"),
    ] = None,
    hopeless_share: HopelessShare = None,
    hopeless_after: HopelessAfter = None,
    bonferroni_cues: BonferroniCues = None,
    budget: Budget = None,
    longest: Longest = None,
    look_delta: LookDelta = None,
    look_signal: LookSignal = None,
    on_select: Annotated[
        bool,
        typer.Option(
            "--on-select",
            help="Replay on the artifacts' select split instead of the test traces, to choose.",
        ),
    ] = False,
    drop_leaked: DropLeaked = False,
    json_file: FiguresFile = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the comparison as PNG.", metavar="FILE")
    ] = None,
) -> None:
    """Fit every stopping rule on the calibration traces and replay each on the test traces.

    Several artifacts compare their probes. The table says what each rule is guaranteed to keep
    (the risk, the tokens, or none), the mean tokens (after a plus: generated beside the thinking)
    and what is saved, as a share of what the oracle saves: the first good cue, which no rule can
    know.
    """
    # Imported here: `stopper --help` and the other commands need none of it.
    import json

    from rich.console import Console

    from calibration.files import replacing
    from calibration.rules import RULES, Terms, make_rule, rule_class
    from calibration.rules.comparison import compare as run
    from stopper.commands._tables import note

    terms = Terms(loss.value, alpha, method, confidence, rollouts.value)
    names = list(dict.fromkeys(rule or RULES))
    for name in names:
        rule_class(name)  # an unknown one is refused before its options are missed
    options = options_by_rule(
        hopeless_share=hopeless_share,
        hopeless_after=hopeless_after,
        bonferroni_cues=bonferroni_cues,
        budget=budget,
        longest=longest,
        look_delta=look_delta,
        look_signal=look_signal,
        rules=names,
    )
    skipped = {}
    if not rule and "budget" not in options:
        names.remove("budget")
        skipped["budget"] = "needs --budget and --longest"
    rules = [make_rule(name, options.get(name)) for name in names]
    contestants = _contestants(
        artifacts or [], calibrate, test, scores, test_scores, on_select, drop_leaked
    )
    found = run(contestants, rules, terms, skipped, insist=bool(rule))

    console = Console()
    console.print(_table(found))
    for name, contestant, why in found.left_out:
        where = f" for {contestant}" if len(contestants) > 1 else ""
        note(f"left out '{name}'{where}: {why}")
    if found.n_test > contestants[0].test.n_groups:
        note("rollouts of one group are alike; the intervals allow for it")
    console.print(_verdict(found, on_select), soft_wrap=True, highlight=False)
    if json_file is not None:
        with replacing(json_file) as file:
            text = json.dumps(found.to_json(), indent=2, allow_nan=False)
            file.write((text + "\n").encode())
        console.print(f"Wrote {json_file}", soft_wrap=True, highlight=False)
    if plot is not None:
        from calibration.rules.plot import plot_comparison

        plot_comparison(found, plot, ", ".join(contestant.name for contestant in contestants))
        console.print(f"Wrote {plot}", soft_wrap=True, highlight=False)


def _contestants(
    artifacts: list[Path],
    calibrate: Path | None,
    test: Path | None,
    scores: Path | None,
    test_scores: Path | None,
    on_select: bool,
    drop_leaked: bool,
) -> list[Contestant]:
    from calibration.rules.comparison import Contestant
    from calibration.scores import load_scores
    from stopper.errors import InputError

    stores = calibrate is not None and test is not None
    own = scores is not None and test_scores is not None
    given = [path for path in (calibrate, test, scores, test_scores) if path is not None]
    if stores == own or len(given) != 2:
        raise InputError(
            "give either --calibrate STORE --test STORE (traces of `stopper collect`) or --scores "
            "CAL.jsonl --test-scores TEST.jsonl (your own scores)"
        )
    if scores is not None and test_scores is not None:
        if artifacts:
            raise InputError(f"{artifacts[0]} would not be used with --scores; leave it out")
        if on_select or drop_leaked:
            flag = "--on-select" if on_select else "--drop-leaked"
            raise InputError(f"{flag} is for trace stores; scores have no artifact with splits")
        return [Contestant(str(scores), load_scores(scores), load_scores(test_scores))]
    if not artifacts:
        raise InputError("--calibrate and --test need an ARTIFACT of `stopper train` to score them")
    assert calibrate is not None and test is not None
    return _scored(artifacts, calibrate, test, on_select, drop_leaked)


def _scored(
    artifacts: list[Path], calibrate: Path, test: Path, on_select: bool, drop_leaked: bool
) -> list[Contestant]:
    """Score both stores by each artifact, on the traces that no artifact was made of."""
    import numpy as np

    from calibration.rules.comparison import Contestant
    from stopper import calibrating
    from stopper.artifact import Artifact
    from stopper.commands._tables import note
    from stopper.errors import InputError

    pairs = []
    for path in artifacts:
        # Its calibration is made anew here, so that its age does not matter.
        loaded = Artifact.load(path, allow_expired=True)
        fit_on = (*calibrating.FITTED, calibrating.TEST)
        judge_on: tuple[str, ...] = (*calibrating.FITTED, calibrating.CALIBRATED)
        if on_select:
            judge_on = tuple(name for name in judge_on if name != "select")
        chosen = [
            calibrating.choose_traces(loaded, store, avoid, drop_leaked=drop_leaked)
            for store, avoid in ((calibrate, fit_on), (test, judge_on))
        ]
        for store, part in zip((calibrate, test), chosen, strict=True):
            for name, count in part.used.items():
                note(f"{path}: set aside {count} groups of {store} in its split '{name}'")
            for remark in part.notes:
                note(f"{path}: {remark}")
        tables = [part.table for part in chosen]
        if on_select:
            tables[1] = _selected(loaded, tables[1], path)
        shared = np.intersect1d(chosen[0].prompts, chosen[1].prompts).size
        if shared:
            raise InputError(
                f"{shared} prompts are in both {calibrate} and {test}; test on prompts that no "
                "rule was fitted to"
            )
        pairs.append(tables)
    contestants = []
    for path, pair in zip(artifacts, pairs, strict=True):
        kept = []
        for which, table in enumerate(pair):
            common = set.intersection(*(set(other[which].trace_ids) for other in pairs))
            rows = np.flatnonzero([trace_id in common for trace_id in table.trace_ids])
            if rows.size == 0:
                raise InputError("no trace is left that none of the artifacts was fitted to")
            if rows.size < len(table):
                note(f"{path}: {len(table) - rows.size} traces left out that others were fitted to")
            kept.append(table.take(rows))
        contestants.append(Contestant(str(path), kept[0], kept[1]))
    return contestants


def _selected(loaded: Artifact, table: CueTable, path: Path) -> CueTable:
    """Keep the traces of the artifact's select split."""
    import numpy as np

    from stopper.errors import InputError
    from stopper.leakage import used_groups

    kept = used_groups(loaded, table.groups, ("select",))
    rows = np.flatnonzero([group in kept for group in table.groups])
    if rows.size == 0:
        raise InputError(
            f"{path}: none of the test traces is in its select split; keep some prompts for "
            "choosing with `stopper train --select-fraction`, or leave out --on-select"
        )
    return table.take(rows)


def _table(found: Comparison) -> Table:
    from rich.markup import escape
    from rich.table import Table

    terms = found.terms
    table = Table(title=f"alpha {terms.alpha:g}, loss '{terms.loss}', {found.n_test} traces")
    table.add_column("rule", no_wrap=True)
    table.add_column("keeps", no_wrap=True)
    # Short titles: the table fits 80 columns. Tokens beside the thinking stand after a plus.
    for title in ("right", "tokens", "of oracle", "bad", "95 %"):
        table.add_column(title, justify="right", no_wrap=True)
    best = found.best_guaranteed
    rows = [(found.label(row), row.outcome, row) for row in found.rows]
    for label, outcome, row in [
        ("full trace", found.full, None), *rows, ("oracle", found.oracle, None)
    ]:  # fmt: skip
        interval, share = "-", "-"
        if row is not None and outcome.bad_stop_interval is not None:
            interval = " - ".join(f"{100 * bound:.1f}" for bound in outcome.bad_stop_interval)
        if row is not None and row.oracle_share is not None:
            share = f"{row.oracle_share:.1%}"
        beside = f"+{outcome.extra_tokens:.1f}" if outcome.extra_tokens else ""
        table.add_row(
            escape(label),
            "-" if row is None else row.guarantee,
            "-" if outcome.accuracy is None else f"{outcome.accuracy:.1%}",
            f"{outcome.tokens:.1f}{beside}",
            share,
            f"{outcome.bad_stop_share:.1%}",
            interval,
            style="bold" if row is not None and row is best else None,
        )
    return table


def _verdict(found: Comparison, on_select: bool) -> str:
    best = found.best_guaranteed
    if best is None:
        return "None of these rules guarantees the risk."
    share = "" if best.oracle_share is None else f" ({best.oracle_share:.1%} of the oracle's)"
    said = f"Most saved with a guaranteed risk: {found.label(best)}{share}. "
    if on_select:
        return said + "Chosen on the select split; quote figures of test traces."
    return said + (
        "To pick it from this table is a choice made on the test traces: choose with "
        "--on-select, and quote the test's figures of that choice."
    )
