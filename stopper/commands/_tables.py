"""What the calibration commands print."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from calibration.calibrate import Calibration
from calibration.evaluate import Outcome
from calibration.report import Evaluation
from calibration.risk import minimum_units, threshold
from calibration.rules import DEFAULT_RULE, rule_class
from stopper.cards import ALPHAS


def note(text: str) -> None:
    """Say something on stderr that is no error."""
    print(f"stopper: {text}", file=sys.stderr)  # noqa: T201


def calibration_summary(found: Calibration) -> Table:
    """Show what was calibrated, and the thresholds for other alphas."""
    by = found.method if found.rule == DEFAULT_RULE else f"{found.method}, rule '{found.rule}',"
    table = Table(title=f"calibrated by {by} for loss '{found.loss}'", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row("requests (groups)", str(found.n_units))
    table.add_row("traces, cues", f"{found.n_traces}, {found.n_cues}")
    share = len(found.bad_scores) / found.n_cues
    table.add_row("bad cues", f"{len(found.bad_scores)} ({share:.1%})")
    if found.rule != DEFAULT_RULE:
        for name, value in found.parameters.items():
            table.add_row(name.replace("_", " "), _parameter(value))
    if not rule_class(found.rule).any_alpha:
        return table
    never = int(np.isneginf(found.worst_scores).sum())
    table.add_row("requests without a bad record", f"{never} ({never / found.n_units:.1%})")
    table.add_row(f"threshold at alpha {found.alpha:g}", f"score > {found.threshold:.6g}")
    if found.method != "lynx":
        for alpha in ALPHAS:
            if alpha != found.alpha:
                table.add_row(f"... at alpha {alpha:g}", _threshold(found, alpha))
    return table


def _parameter(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_parameter(item) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _threshold(found: Calibration, alpha: float) -> str:
    confidence = found.confidence or 0.9
    needed = minimum_units(found.method, alpha, confidence)
    if found.n_units < needed:
        return f"needs {needed - found.n_units} more traces"
    limit = threshold(found.worst_scores, alpha, found.method, confidence)
    return f"score > {limit:.6g}"


def rules_table(evaluation: Evaluation) -> Table:
    """Show all rules at one alpha."""
    table = Table(
        title=f"alpha {evaluation.alpha:g}, loss '{evaluation.loss}', {evaluation.n_test} traces"
    )
    table.add_column("rule", no_wrap=True)
    for title in ("accuracy", "tokens", "saved", "bad", "share", "95 % interval"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in evaluation.rows:
        spent = row.tokens + row.extra_tokens
        saved = 1 - spent / evaluation.full.tokens if evaluation.full.tokens else 0.0
        style = "bold" if row is evaluation.stopped else None
        # The full trace and the oracle are never stopped badly: their zeros are no estimates.
        certain = row is evaluation.full or row is evaluation.oracle
        figures = _figures(replace(row, bad_stop_interval=None) if certain else row, saved)
        table.add_row(escape(row.rule), *figures, style=style)
    return table


def alphas_table(evaluations: Sequence[Evaluation]) -> Table:
    """Show the artifact's rule at several alphas."""
    table = Table(title=evaluations[0].stopped.rule)
    for title in ("alpha", "score >", "accuracy", "tokens", "saved", "bad", "share", "95 %"):
        table.add_column(title, justify="right", no_wrap=True)
    for evaluation in evaluations:
        row = evaluation.stopped
        limit = math.nan if row.threshold is None else row.threshold
        figures = _figures(row, evaluation.saved_share)
        table.add_row(f"{evaluation.alpha:g}", f"{limit:.4g}", *figures)
    return table


def verdict(evaluation: Evaluation) -> str:
    """Say in one line whether the promise was kept on these traces."""
    row, alpha = evaluation.stopped, evaluation.alpha
    low = (row.bad_stop_interval or (0.0, 1.0))[0]
    found = f"{row.bad_stops:.0f} of {evaluation.n_test} stopped badly ({row.bad_stop_share:.1%})"
    if evaluation.promised_tokens is not None:
        budget, noise = evaluation.promised_tokens, 2 * (row.tokens_error or 0.0)
        kept = "BROKEN, these traces are not like those calibrated on"
        if row.tokens <= budget:
            kept = "kept"
        elif row.tokens - noise <= budget:
            kept = "exceeded, but within the noise of so few traces"
        return (
            f"{row.tokens:.1f} thinking tokens a trace: the budget of {budget:g} {kept}. {found}, "
            f"about which the rule '{evaluation.rule}' promises nothing (docs/rules.md)."
        )
    if row.bad_stop_share <= alpha:
        return f"{found}: alpha {alpha:g} kept."
    if low <= alpha:
        return f"{found}: above alpha {alpha:g}, but within the noise of so few traces."
    reason = "these traces are not like those calibrated on (docs/guarantee.md: what breaks it)."
    if evaluation.method == "lynx" or evaluation.rule == "mapie":
        reason = "the per-cue rule promises nothing per request."
    elif evaluation.guarantee == "none":
        reason = f"the rule '{evaluation.rule}' promises nothing (docs/rules.md)."
    return f"{found}: alpha {alpha:g} BROKEN, {reason}"


def _figures(row: Outcome, saved: float) -> tuple[str, ...]:
    interval = "-"
    if row.bad_stop_interval is not None:
        interval = " - ".join(f"{100 * bound:.1f}" for bound in row.bad_stop_interval)
    return (
        "unknown" if row.accuracy is None else f"{row.accuracy:.1%}",
        f"{row.tokens:.1f}",
        f"{saved:.1%}",
        f"{row.bad_stops:.0f}",
        f"{row.bad_stop_share:.1%}",
        interval,
    )
