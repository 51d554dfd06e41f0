"""``stopper diffusion evaluate``: a halting rule and its rivals on held-out decodes."""

from __future__ import annotations

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
    from stopper.commands.diffusion._shared import (
        held_out,
        load_halting,
        outcomes_table,
        verdict,
    )
    from stopper.halting_policy import HaltingPolicy
    from stopper.halting_rivals import ours, rows

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
    if json_file is not None:
        report = {
            "alpha": asked[0],
            "n_test": len(evaluator.table),
            "n_groups": len(set(evaluator.table.groups)),
            "rows": [row.to_json() for row in first],
            "alphas": [
                {"alpha": share, **row.to_json()} for share, row in zip(asked, others, strict=True)
            ],
        }
        with replacing(json_file) as file:
            file.write((json.dumps(report, indent=2, allow_nan=False) + "\n").encode())
        console.print(f"Wrote {json_file}", soft_wrap=True, highlight=False)
