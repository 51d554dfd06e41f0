"""`stopper demo --diffusion`: canvases settling, the halt marked, and what it spares."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from adapters.transformers.baselines import METHODS, Method
from adapters.transformers.comparison import Figures
from adapters.transformers.comparison import compare as run
from adapters.transformers.figures import calibrated_methods, points_of, sampler_of
from adapters.transformers.loading import load_model, read_requests, require_unused
from adapters.transformers.settling import show, watch
from calibration.evaluate import clopper_pearson
from calibration.files import replacing
from calibration.halting_plot import plot_points
from stopper.artifact import Artifact
from stopper.errors import InputError
from stopper.halting_policy import HaltingPolicy

HOME = Path(__file__).resolve().parents[2] / "examples" / "tiny_diffusion"
_CURVE = (0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True, slots=True)
class DiffusionDemo:
    """What the demo measured: full decode, halted, Prophet, on the same prompts in one process."""

    alpha: float
    full: Figures
    halted: Figures
    prophet: Figures

    def to_json(self) -> dict[str, Any]:
        """Give the figures as plain JSON; steps are mean forward passes a prompt."""

        def row(figures: Figures) -> dict[str, Any]:
            return {
                "steps": figures.steps / figures.n,
                "wall_s": figures.seconds,
                "accuracy": figures.accuracy,
                "agreement": figures.agreement,
                "step_speedup": figures.step_speedup,
                "wall_speedup": figures.wall_speedup,
            }

        return {
            "alpha": self.alpha,
            "n_test": self.full.n,
            "agreement": self.halted.agreement,
            "disagreements": self.halted.disagreements,
            "disagreement_interval": list(clopper_pearson(self.halted.disagreements, self.full.n)),
            "full": row(self.full),
            "halted": row(self.halted),
            "prophet": row(self.prophet),
        }


def demo_diffusion(
    model: str | None,
    artifact: Path | None,
    prompts: Path | None,
    alpha: float | None,
    limit: int,
    shown: int,
    json_file: Path | None,
    plot: Path,
    batch: int,
) -> None:
    """Run the demo as the command does: see :func:`measure`, and write its figures as JSON."""
    console = Console()
    folder = None if model is None else Path(model)
    found = measure(console, folder, artifact, prompts, alpha, limit, shown, plot, batch)
    console.print(f"Wrote {plot}", soft_wrap=True, highlight=False)
    if json_file is not None:
        with replacing(json_file) as file:
            file.write((json.dumps(found.to_json(), indent=2) + "\n").encode())
        console.print(f"Wrote {json_file}", soft_wrap=True, highlight=False)


def measure(
    console: Console,
    model: Path | None,
    artifact: Path | None,
    prompts: Path | None,
    alpha: float | None,
    limit: int,
    shown: int,
    plot: Path,
    batch: int,
) -> DiffusionDemo:
    """Show a few canvases settling, decode held-out prompts three ways, and draw the picture.

    Parameters
    ----------
    console
        To print to.
    model, artifact, prompts
        Default: the tiny diffusion LM of this checkout.
    alpha
        Share that may be halted badly; None: as calibrated.
    limit, shown
        Prompts to decode, and canvases to show.
    plot
        The PNG.
    batch
        Prompts in a forward pass.

    Raises
    ------
    InputError
        If a file is missing, the artifact is of another model, or prompts made the artifact.

    """
    if None in (model, artifact, prompts) and not (HOME / "model").is_dir():
        raise InputError(
            "the tiny diffusion LM is part of stopper's source checkout, not of the installed "
            "package; run this in a checkout, or give --model, --artifact and --prompts"
        )
    folder = model or HOME / "model"
    made = Artifact.load(artifact or HOME / "artifact")
    policy = HaltingPolicy.from_artifact(made)
    asked = policy.alpha if alpha is None else alpha
    ours = calibrated_methods(made, [asked])[0]
    loaded = load_model(folder, comparer=made.manifest.comparer or "auto", artifact=made)
    requests = read_requests(prompts or HOME / "problems" / "test.jsonl", loaded.tokenizer, limit)
    require_unused(made, requests)
    sampler = sampler_of(made)
    if shown:
        few = requests[:shown]
        for request, seen in zip(
            few, watch(loaded, few, sampler, policy.rule, ours.level), strict=True
        ):
            question = str(loaded.tokenizer.decode(list(request.prompt))).strip()
            show(console, seen, loaded, ours.level, question[-90:])
    methods = [ours, METHODS["prophet"], *_curve(made, policy, asked)]
    with Console(stderr=True).status(f"decoding {len(requests)} prompts, {1 + len(methods)} ways"):
        found = run(loaded.model, requests, sampler, methods, loaded.judge, batch_size=batch)
    by_name = {row.name: row for row in found}
    result = DiffusionDemo(asked, found[0], by_name[ours.name], by_name["prophet"])
    console.print(_table(result))
    plot_points(points_of(found), plot, f"{Path(folder).name}: {len(requests)} held-out prompts")
    return result


def _curve(artifact: Artifact, policy: HaltingPolicy, asked: float) -> Sequence[Method]:
    """Give the artifact's rule at a few other alphas that its calibration carries."""
    record = artifact.manifest.calibration
    if record is None or record.method == "mapie":
        return []
    others = [alpha for alpha in _CURVE if alpha != asked and policy.carries(alpha)]
    return calibrated_methods(artifact, others) if others else []


def _table(found: DiffusionDemo) -> Table:
    figures = found.to_json()
    table = Table(
        title=f"{figures['n_test']} held-out prompts, alpha {found.alpha:g}",
        box=box.SIMPLE, pad_edge=False,
    )  # fmt: skip
    table.add_column("")
    for name in ("full", "halted", "prophet"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = [found.full, found.halted, found.prophet]

    def percent(value: float | None) -> str:
        return "unknown" if value is None else f"{100 * value:.1f} %"

    table.add_row("passes a prompt", *(f"{row.steps / row.n:.1f}" for row in rows))
    table.add_row("  fewer", *(f"{row.step_speedup:.2f}x" for row in rows))
    table.add_row("wall-clock, s", *(f"{row.seconds:.1f}" for row in rows))
    table.add_row("  faster", *(f"{row.wall_speedup:.2f}x" for row in rows))
    table.add_row("agrees with full", *(percent(row.agreement) for row in rows))
    table.add_row("right answers", *(percent(row.accuracy) for row in rows))
    low, high = figures["disagreement_interval"]
    bad = figures["disagreements"] / figures["n_test"]
    table.add_row("other answers", "", f"{figures['disagreements']} = {percent(bad)}", "")
    table.add_row("  95 % interval", "", f"{100 * low:.1f} to {100 * high:.1f} %", "")
    table.add_row("  promised at most", "", percent(found.alpha), "nothing")
    return table
