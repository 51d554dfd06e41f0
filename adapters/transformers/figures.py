"""An artifact's rule as a way to decode, and a comparison's figures as a table and points."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from adapters.transformers.baselines import FULL, Method
from adapters.transformers.comparison import Figures
from adapters.transformers.sampler import Sampler
from calibration.halting_plot import Point
from stopper.artifact import Artifact
from stopper.errors import ArtifactError
from stopper.halting import PRESETS
from stopper.halting_policy import HaltingPolicy
from stopper.halting_rivals import stretched

OURS = "stopper"


def calibrated_methods(artifact: Artifact, alphas: Sequence[float] | None) -> list[Method]:
    """Give an artifact's rule at each alpha; by default at its own.

    Raises
    ------
    TooFewTraces
        If the calibration cannot carry an alpha.
    ArtifactError
        If the artifact has no calibrated halting rule.

    """
    policy = HaltingPolicy.from_artifact(artifact)
    asked = list(dict.fromkeys(alphas or [policy.alpha]))
    for alpha in asked:
        policy.require(alpha)
    return [
        Method(
            f"{OURS}, alpha {alpha:g}",
            "halts at the calibrated level",
            rule=policy.rule,
            level=float(policy.level(alpha)),
            promise=f"other answers: at most {alpha:g}",
        )
        for alpha in asked
    ]


def stretched_prophet(factor: float) -> Method:
    """Give Prophet with its thresholds multiplied."""
    rule = stretched(PRESETS["prophet"], factor)
    return Method(f"prophet x {factor:g}", "its thresholds, multiplied", rule=rule)


def sampler_of(artifact: Artifact) -> Sampler:
    """Read the sampler that an artifact's promise is for.

    Raises
    ------
    ArtifactError
        If it has none.

    """
    spec = artifact.manifest.halting
    if spec is None:
        raise ArtifactError(
            "the artifact has no halting rule: it is for a reasoning model. Make one with "
            "`stopper diffusion calibrate`"
        )
    return Sampler.from_spec(spec.sampler, spec.progress)


def figures_table(found: Sequence[Figures], title: str) -> Table:
    """Show what each way to decode costs and gives."""
    table = Table(title=title, box=box.SIMPLE, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for name in ("passes", "fewer", "time", "faster", "agree", "right", "QPS"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found:
        ours = row.name.startswith(OURS)
        table.add_row(
            escape(row.name),
            f"{row.steps / row.n:.1f}",
            f"{row.step_speedup:.2f}x",
            f"{row.seconds:.1f} s",
            f"{row.wall_speedup:.2f}x",
            f"{row.agreement:.1%}",
            "-" if row.accuracy is None else f"{row.accuracy:.1%}",
            "-" if row.step_qps is None else f"{row.step_qps:.2f}",
            style="bold" if ours else None,
        )
    table.caption = "only the rows of stopper promise anything: their alpha"
    return table


def points_of(found: Sequence[Figures]) -> list[Point]:
    """Give each row as a point of passes and agreement."""
    found_by = {FULL.name: "full"}
    return [
        Point(
            row.name,
            row.steps / row.n,
            row.agreement,
            "ours" if row.name.startswith(OURS) else found_by.get(row.name, "rival"),
        )
        for row in found
    ]
