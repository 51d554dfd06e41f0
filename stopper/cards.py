"""What a person reads about an artifact: rich tables made from its manifest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from stopper.halting import HaltingRule
from stopper.manifest import Manifest
from stopper.policy import StopPolicy

ALPHAS = (0.01, 0.02, 0.03, 0.05, 0.10, 0.20)
"""Tolerated shares for which the thresholds are shown."""

_METRICS = {
    "auroc": "AUROC (0.5 is chance)",
    "auprc": "AUPRC (chance is the positive share)",
    "positive_share": "positive share",
    "brier": "Brier score",
    "ece": "expected calibration error",
    "n": "cues",
}

_COUNTS = ("traces", "traces_without_cues", "left_out_traces", "cues", "unlabelled_cues")
"""Of the training record; an older artifact has not all of them."""


def card(manifest: Manifest, expired: bool) -> Table:
    """Return the artifact's identity as a two-column table."""
    table = _pairs("artifact")
    created = f"{manifest.created:%Y-%m-%d %H:%M %Z}, stopper {manifest.stopper_version}"
    table.add_row("created", escape(created))
    if manifest.expires is not None:
        when = f"{manifest.expires:%Y-%m-%d %H:%M %Z}"
        table.add_row("expires", f"[red]{when}: EXPIRED[/red]" if expired else when)
    model = manifest.model
    if manifest.context is not None:
        context = manifest.context
        read = f"features {context.features}, sentences by {context.splitter}"
        table.add_row("context", escape(f"{context.encoder}, {read}, documents {context.scope}"))
    elif model is None:
        made = "scores" if manifest.halting is None else "decodes that do not name it"
        table.add_row("model", f"none: made from {made}, cannot be served")
    else:
        table.add_row(
            "model",
            escape(
                f"{model.model} ({model.architecture}, {model.num_layers} layers of "
                f"{model.hidden_size}, {model.dtype}"
                + (f", {model.quantization})" if model.quantization else ")")
            ),
        )
    if manifest.probe is not None and manifest.context is None:
        probe = manifest.probe
        layers = ", ".join(map(str, probe.layers))
        inside = f" {list(probe.hidden_dims)}" if probe.hidden_dims else ""
        shaping = f"rise, weight {probe.rise_weight:g}" if probe.shaping == "rise" else "raw"
        table.add_row("probe", escape(f"{probe.kind}{inside}, layers {layers}, shaping {shaping}"))
    if manifest.cues is not None:
        table.add_row("cues", escape(", ".join(manifest.cues.labels)))
    if manifest.closing is not None:
        closing = manifest.closing
        prompt = f", then {closing.answer_prompt!r}" if closing.answer_prompt else ""
        table.add_row("closing", escape(f"ids {list(closing.end_ids)}{prompt}"))
    if manifest.halting is not None:
        halting, sampler = manifest.halting, manifest.halting.sampler
        table.add_row("halting", escape(shape_text(halting.rule())))
        table.add_row(
            "sampler",
            escape(
                f"{sampler.steps} steps a block of {sampler.block_length}, canvas "
                f"{sampler.canvas_length}, by {sampler.order}"
                + "".join(f", {name} {value}" for name, value in sampler.options.items())
                + f"; progress over the {halting.progress}"
            ),
        )
    if manifest.sampling:
        pairs = (f"{name} {value}" for name, value in manifest.sampling.items())
        table.add_row("sampling", escape(", ".join(pairs)))
    return table


def calibration_table(manifest: Manifest) -> Table | None:
    """Return how the promise was made; None before calibration."""
    record = manifest.calibration
    if record is None:
        return None
    table = _pairs("calibration")
    confidence = f", confidence {record.confidence:g}" if record.confidence is not None else ""
    table.add_row("method", f"{record.method}{confidence}")
    parameters = ", ".join(f"{name} {value}" for name, value in record.parameters.items())
    table.add_row("rule", escape(f"{record.rule}: {parameters}" if parameters else record.rule))
    table.add_row("loss", record.loss)
    rollouts = f", up to {record.rollouts} traces a prompt" if record.rollouts > 1 else ""
    traces, cues = ("traces", "cues") if manifest.halting is None else ("decodes", "steps")
    if manifest.context is not None:
        traces, cues = "queries", "sentences"
    table.add_row(
        "made on", f"{record.n_units} prompts, {record.n_traces} {traces}, {record.n_cues} {cues}"
        f"{rollouts}",
    )  # fmt: skip
    # Rules of several thresholds have none to show here; theirs stand among the parameters.
    single = record.rule == "level" or math.isfinite(record.threshold)
    shown = f" (threshold {record.threshold:.6g})" if single else ""
    table.add_row("alpha", f"{record.alpha:g}{shown}")
    table.add_row("promise", escape(record.promise))
    return table


def shape_text(rule: HaltingRule) -> str:
    """Spell a halting rule's shape in one line."""
    shape = rule.schedule
    rate = f", rate {shape.rate:g}" if shape.kind == "exponential" else ""
    gate = ", stable argmax" if rule.stable_argmax else ""
    return f"{shape.kind} {shape.high:g} to {shape.low:g}{rate} on {rule.signal}{gate}"


def thresholds(policy: StopPolicy) -> dict[float, float]:
    """Return the exact threshold per alpha of :data:`ALPHAS`; +inf where traces are too few."""
    return {alpha: float(policy.threshold(alpha)) for alpha in ALPHAS}


def threshold_table(policy: StopPolicy) -> Table:
    """Return the thresholds that a request may choose by its own alpha."""
    table = Table(title="thresholds", title_justify="left")
    table.add_column("alpha", justify="right")
    table.add_column("stop above", justify="right")
    for alpha, value in thresholds(policy).items():
        shown = "never: too few traces" if value == math.inf else f"{value:.6g}"
        table.add_row(f"{alpha:g}", shown)
    return table


def training_tables(manifest: Manifest) -> list[Table]:
    """Return how the probe did on held-out prompts, and what it was fitted on.

    Of a halting rule: which shapes it was chosen from.
    """
    training: Mapping[str, Any] = manifest.training
    if manifest.halting is not None:
        return _shape_tables(training.get("choice"))
    held_out = training.get("held_out")
    if not isinstance(held_out, dict):
        return []
    quality = _pairs(f"held-out prompts, label {escape(str(training.get('label')))!r}")
    for name, title in _METRICS.items():
        value = held_out.get(name)
        shown = "none" if value is None else str(value) if name == "n" else f"{value:.4f}"
        quality.add_row(title, shown)
    made = _pairs("fitted on")
    if "objective" in training:
        price = f", bad stop priced {training['bad_weight']:g}" if "bad_weight" in training else ""
        made.add_row("objective", escape(f"{training['objective']}{price}"))
    for name in _COUNTS:
        if name in training:
            made.add_row(name.replace("_", " "), str(training[name]))
    groups = training.get("groups")
    if isinstance(groups, dict):
        made.add_row("prompts", ", ".join(f"{name} {count}" for name, count in groups.items()))
    fit = training.get("fit")
    if isinstance(fit, dict):
        pairs = (f"{name.replace('_', ' ')} {_short(value)}" for name, value in fit.items())
        made.add_row("fit", escape(", ".join(pairs)))
    choice = training.get("choice")
    return [quality, made, *([_choice_table(choice)] if isinstance(choice, dict) else [])]


def _choice_table(choice: Mapping[str, Any]) -> Table:
    """Show what each candidate of ``stopper train --choose`` saved on the select split."""
    table = Table(
        title=f"chosen at alpha {choice['alpha']:g}, loss '{choice['loss']}', two-fold on the "
        f"{choice['groups']} prompts of the select split",
        title_justify="left",
    )
    table.add_column("probe")
    for title in ("saved", "bad", "stopped", "AUROC"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in choice["table"]:
        area = "none" if row["auroc"] is None else f"{row['auroc']:.4f}"
        table.add_row(
            escape(str(row["name"])),
            *(f"{row[name]:.1%}" for name in ("saved", "bad_share", "stopped_share")),
            area,
            style="bold" if row["name"] == choice["chosen"] else None,
        )
    return table


def _shape_tables(choice: object) -> list[Table]:
    """Show the shapes that came first on the select split, and the passes expected of each."""
    if not isinstance(choice, dict):
        return []
    table = Table(
        title=f"the best of {choice['shapes']} shapes at alpha {choice['alpha']:g}, on the "
        f"{choice['prompts']} prompts of the select split",
        title_justify="left",
    )
    table.add_column("shape")
    table.add_column("passes", justify="right", no_wrap=True)
    for row in choice["best"]:
        shape = {name: value for name, value in row.items() if name != "steps"}
        table.add_row(shape_text(HaltingRule.from_json(shape)), f"{row['steps']:.1f}")
    return [table]


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _pairs(title: str) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    return table
