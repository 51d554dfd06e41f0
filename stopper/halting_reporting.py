"""What the page of a halting artifact says about where it comes from, and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from calibration.halting_outcomes import HaltingEvaluator
from calibration.page.halting import HaltingReport, make_halting_report
from calibration.page.report import Fact
from calibration.report import PLOT_ALPHAS
from probes.validation import read_json
from stopper.artifact import MANIFEST, Artifact
from stopper.cards import shape_text
from stopper.denoising_calibration import halting_promise
from stopper.errors import InputError
from stopper.halting_policy import HaltingPolicy
from stopper.halting_rivals import ours, rows
from stopper.halting_shapes import scores_of
from stopper.reporting import origin_of


def page_of(
    artifact: Artifact,
    evaluator: HaltingEvaluator,
    alphas: Sequence[float],
    folder: Path,
    store: Path,
    command: Sequence[str],
) -> HaltingReport:
    """Evaluate a halting artifact and prepare its page.

    Parameters
    ----------
    artifact
        Calibrated.
    evaluator
        On held-out decodes.
    alphas
        At least one; the first is the headline's.
    folder, store
        Where artifact and decodes lie.
    command
        That makes the report, as its words.

    Raises
    ------
    InputError
        If the artifact carries no such alpha.

    """
    policy = HaltingPolicy.from_artifact(artifact)
    record, spec = artifact.manifest.calibration, artifact.manifest.halting
    if record is None or spec is None:
        raise InputError(f"{folder}: not a calibrated halting artifact")
    asked, confidence = alphas[0], record.confidence or 0.9
    end = max(0.2, *(1.5 * alpha for alpha in alphas))
    more = [alpha for alpha in PLOT_ALPHAS if alpha <= end and policy.carries(alpha)]
    shown = sorted({*alphas, *more})
    origin = origin_of(
        artifact,
        title=folder.resolve().name,
        source=store.name,
        alpha=record.alpha,  # of its own the artifact has the sentence
        command=command,
        digest=read_json((folder / MANIFEST).read_bytes()).get("digest"),
        promise_text=halting_promise(asked, record.method, confidence, record.n_units),
        section=("Halting rule", _facts(artifact)),
    )
    scores = scores_of(policy.rule, evaluator.table)
    return make_halting_report(
        evaluator.table,
        evaluator.replay(scores, float(policy.level(asked))),
        [(alpha, ours(evaluator, policy, alpha)) for alpha in shown],
        rows(evaluator, policy, asked),
        asked,
        origin,
        None if record.method == "crc" else confidence,
    )


def _facts(artifact: Artifact) -> tuple[Fact, ...]:
    spec = artifact.manifest.halting
    if spec is None:
        return ()
    sampler = spec.sampler
    options = ", ".join(f"{name} {value}" for name, value in sampler.options.items())
    return (
        Fact("shape", shape_text(spec.rule())),
        Fact("progress", f"over the {spec.progress}"),
        Fact("steps", f"{sampler.steps} a block"),
        Fact("block, canvas", f"{sampler.block_length}, {sampler.canvas_length} tokens"),
        Fact("order", sampler.order),
        *((Fact("options", options),) if options else ()),
    )
