"""What ``stopper diffusion calibrate`` prints."""

from __future__ import annotations

import numpy as np
from rich.table import Table

from calibration.risk import minimum_units, threshold
from stopper.cards import ALPHAS, shape_text
from stopper.commands.diffusion._shared import level_text
from stopper.denoising_calibration import HaltingCalibration

_SHOWN = 5


def calibration_tables(found: HaltingCalibration) -> list[Table]:
    """Show the shapes considered, and what was calibrated."""
    return [_shapes(found), _levels(found)]


def _shapes(found: HaltingCalibration) -> Table:
    table = Table(title=f"the best of {len(found.candidates)} shapes, on the select split")
    table.add_column("shape")
    table.add_column("passes expected", justify="right", no_wrap=True)
    for candidate in found.candidates[:_SHOWN]:
        chosen = candidate.rule == found.rule
        table.add_row(
            shape_text(candidate.rule), f"{candidate.steps:.1f}", style="bold" if chosen else None
        )
    return table


def _levels(found: HaltingCalibration) -> Table:
    terms = found.terms
    by = terms.method if terms.method != "mapie" else f"mapie, {terms.correction}"
    table = Table(title=f"calibrated by {by} for loss 'disagree'", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row("prompts", str(found.n_units))
    table.add_row("decodes, steps", f"{found.n_traces}, {found.n_steps}")
    for name, value in found.parameters.items():
        table.add_row(f"candidates {name}" if name != "correction" else name, str(value))
    table.add_row(f"level at alpha {terms.alpha:g}", f"score > {level_text(found.level)}")
    worst = found.worst_scores
    if worst is None:
        return table
    never = int(np.isneginf(worst).sum())
    table.add_row("prompts that no level halts badly", f"{never} ({never / found.n_units:.1%})")
    for alpha in ALPHAS:
        needed = minimum_units(terms.method, alpha, terms.confidence)
        if alpha == terms.alpha:
            continue
        if found.n_units < needed:
            said = f"needs {needed - found.n_units} more prompts"
        else:
            level = threshold(worst, alpha, terms.method, terms.confidence)
            said = f"score > {level_text(level)}"
        table.add_row(f"... at alpha {alpha:g}", said)
    return table
