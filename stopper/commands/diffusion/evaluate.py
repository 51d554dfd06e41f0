"""``stopper diffusion evaluate``: a halting rule and its rivals on held-out decodes."""

from __future__ import annotations

from typing import Annotated

import typer

from stopper.commands.diffusion._options import (
    Alphas,
    ArtifactFolder,
    Decodes,
    HaltingFigures,
)


def evaluate(
    artifact: ArtifactFolder,
    traces: Decodes,
    alpha: Alphas = None,
    repeats: Annotated[
        int,
        typer.Option(
            help="Find the level again, so many times, on random halves of these decodes, and "
            "judge it on the other halves.",
            min=0,
        ),
    ] = 0,
    json_file: HaltingFigures = None,
) -> None:
    """Replay the rules on decodes that nothing was fitted to: passes, agreement, accuracy.

    Compared: the full decode, the artifact's rule, the same mean passes spent alike on all, Prophet
    stretched to the same agreement, the papers' settings (no guarantee), and the oracle that halts
    at the first step that agrees.
    """
    # Imported here: `stopper --help` and the other commands need none of it.
    import json

    from rich.console import Console

    from calibration.files import replacing
    from calibration.halting_outcomes import HaltingEvaluator
    from calibration.halting_redraws import redraw
    from calibration.risk import DEFAULT_CONFIDENCE
    from stopper.commands.diffusion._shared import (
        held_out,
        load_halting,
        outcomes_table,
        redrawn,
        verdict,
    )
    from stopper.errors import InputError
    from stopper.halting_policy import HaltingPolicy
    from stopper.halting_rivals import ours, rows
    from stopper.halting_shapes import scores_of, units_of

    loaded = load_halting(artifact)
    policy = HaltingPolicy.from_artifact(loaded)
    asked = list(dict.fromkeys(alpha or [policy.alpha]))
    for share in asked:
        policy.require(share)  # refuses a wrong or unaffordable alpha before anything is read
    evaluator = HaltingEvaluator(held_out(loaded, traces), str(traces))
    first = rows(evaluator, policy, asked[0])
    others = [ours(evaluator, policy, share) for share in asked]
    console = Console()
    title = f"alpha {asked[0]:g}, {len(evaluator.table)} held-out decodes"
    console.print(outcomes_table(first, title, others[0].rule))
    if len(others) > 1:
        console.print(outcomes_table(others, "the artifact's rule at every alpha", ""))
    for share, row in zip(asked, others, strict=True):
        console.print(verdict(row, share), soft_wrap=True, highlight=False)
    again = []
    if repeats:
        record, units = loaded.manifest.calibration, units_of(evaluator.table)
        assert record is not None
        if record.method == "mapie":
            raise InputError("--repeats finds levels by ltt or crc; the artifact is one of mapie")
        scores, confidence = scores_of(policy.rule, units), record.confidence or DEFAULT_CONFIDENCE
        for share in asked:
            again.append(redraw(scores, units, share, record.method, confidence, repeats))
            console.print(redrawn(again[-1]), soft_wrap=True, highlight=False)
    if json_file is not None:
        report = {
            "alpha": asked[0],
            "n_test": len(evaluator.table),
            "n_groups": len(set(evaluator.table.groups)),
            "rows": [row.to_json() for row in first],
            "alphas": [
                {"alpha": share, **row.to_json()} for share, row in zip(asked, others, strict=True)
            ],
            "repeats": [one.to_json() for one in again],
        }
        with replacing(json_file) as file:
            file.write((json.dumps(report, indent=2, allow_nan=False) + "\n").encode())
        console.print(f"Wrote {json_file}", soft_wrap=True, highlight=False)
