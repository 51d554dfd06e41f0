"""``stopper calibrate``: turn labelled, scored traces into a threshold with a promise."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stopper.commands._options import (
    Alpha,
    Confidence,
    DropLeaked,
    LossName,
    Rollouts,
    RolloutsOption,
    Scores,
    Traces,
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


class Method(StrEnum):
    """Methods of calibration."""

    ltt = "ltt"
    crc = "crc"
    lynx = "lynx"


def calibrate(
    artifact: Annotated[
        Path | None, typer.Argument(help="Artifact of `stopper train`; none with --scores.")
    ] = None,
    scores: Scores = None,
    traces: Traces = None,
    loss: Annotated[
        LossName,
        typer.Option(
            help="What a bad stop is. disagree: other answer than the full trace's; wrong: wrong "
            "answer; harm: wrong answer where the full trace is right."
        ),
    ] = LossName.disagree,
    alpha: Alpha = 0.05,
    confidence: Confidence = 0.9,
    method: Annotated[
        Method,
        typer.Option(
            help="ltt: holds with the confidence. crc: holds on average. lynx: per-cue baseline, "
            "no promise per request."
        ),
    ] = Method.ltt,
    rule: Annotated[
        str,
        typer.Option(
            help="Stopping rule, see docs/rules.md; engines serve level. lynx is --method lynx.",
            metavar="NAME",
        ),
    ] = "level",
    hopeless_share: HopelessShare = None,
    hopeless_after: HopelessAfter = None,
    bonferroni_cues: BonferroniCues = None,
    budget: Budget = None,
    longest: Longest = None,
    look_delta: LookDelta = None,
    look_signal: LookSignal = None,
    rollouts: RolloutsOption = Rollouts.one,
    out: Annotated[
        Path | None,
        typer.Option(help="Artifact folder to write. Default: ARTIFACT itself."),
    ] = None,
    valid_days: Annotated[
        float | None, typer.Option(help="Let the artifact expire after so many days.", min=0.001)
    ] = None,
    allow_one_class: Annotated[
        bool, typer.Option("--allow-one-class", help="Accept cues that are all good or all bad.")
    ] = False,
    drop_leaked: DropLeaked = False,
) -> None:
    """Find the threshold that keeps alpha, and write it into an artifact with its promise.

    Refuses, and says how many traces are missing, where there are too few for the promise. The
    artifact keeps what it takes to answer any other alpha later without calibrating again.
    """
    # Imported here: `stopper --help` and the other commands need none of it.
    from rich.console import Console
    from rich.markup import escape

    from calibration.calibrate import calibrate as find
    from calibration.calibrate import calibrate_rule
    from calibration.rules import Terms, make_rule
    from calibration.scores import load_scores
    from stopper import calibrating
    from stopper.artifact import Artifact, check_target
    from stopper.commands._tables import calibration_summary, note
    from stopper.errors import InputError

    console = Console()
    given = options_by_rule(
        hopeless_share=hopeless_share,
        hopeless_after=hopeless_after,
        bonferroni_cues=bonferroni_cues,
        budget=budget,
        longest=longest,
        look_delta=look_delta,
        look_signal=look_signal,
        rules=[rule],
    )
    stopping = make_rule(rule, given.get(rule))
    if method is Method.lynx and rule not in ("level", "lynx"):
        raise InputError(
            f"--method lynx is a rule of its own; leave out --rule {rule}, or --method"
        )
    source = calibrating.choose_source(scores, traces)
    base, chosen = None, None
    if scores is not None:
        if artifact is not None:
            raise InputError(
                f"--scores makes an artifact of its own; {artifact} would not be used. Leave it "
                "out, or calibrate it with --traces"
            )
        if out is None:
            raise InputError("--scores needs --out FOLDER to write the artifact to")
        check_target(out)
        table = load_scores(source)
    else:
        if artifact is None:
            raise InputError(f"--traces {source} needs the ARTIFACT of `stopper train` to score it")
        out = artifact if out is None else out
        check_target(out)
        # An expired promise is what a new calibration replaces.
        base = Artifact.load(artifact, allow_expired=True)
        avoid = (*calibrating.FITTED, calibrating.TEST)
        chosen = calibrating.choose_traces(base, source, avoid, drop_leaked=drop_leaked)
        table = chosen.table
        for remark in chosen.notes:
            note(remark)
        if base.manifest.expires is not None and valid_days is None:
            note("the artifact had a date of expiry and loses it; --valid-days gives it a new one")
        if chosen.used:
            kept = ", ".join(f"{count} {name}" for name, count in chosen.used.items())
            note(f"set aside groups of the artifact's other splits: {kept}")
        if dict(chosen.sampling) != base.manifest.sampling:
            note(f"the promise is for the sampling of {source}: {dict(chosen.sampling)}")
    if method is Method.lynx or rule == "level":
        found = find(
            table,
            loss=loss.value,
            alpha=alpha,
            method=method.value,
            confidence=confidence,
            rollouts=rollouts.value,
            allow_one_class=allow_one_class,
            source=str(source),
        )
    else:
        terms = Terms(loss.value, alpha, method.value, confidence, rollouts.value)
        found = calibrate_rule(stopping, table, terms, allow_one_class, str(source))
    for remark in found.notes:
        note(remark)
    made = calibrating.calibrated(found, table, base, chosen, valid_days)
    made.save(out)
    console.print(calibration_summary(found))
    console.print(escape(found.promise), soft_wrap=True)
    test = "--scores TEST.jsonl" if scores is not None else f"--traces {source}"
    console.print(
        escape(f"Wrote {out}. Next: stopper evaluate {out} {test} --alpha {alpha:g}"),
        soft_wrap=True,
        highlight=False,
    )
