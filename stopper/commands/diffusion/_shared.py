"""Tables and checks that the diffusion commands share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from calibration.denoising import DenoisingTable
from calibration.denoising_store import load_store
from calibration.halting_outcomes import HaltingOutcome
from calibration.halting_redraws import Redraws
from calibration.splits import PROMPTS, require_disjoint
from stopper.artifact import Artifact, expiry
from stopper.commands._tables import note
from stopper.denoising_settings import require_setting


def load_halting(folder: Path) -> Artifact:
    """Load an artifact, an expired one with a warning."""
    loaded = Artifact.load(folder, allow_expired=True)
    if loaded.manifest.expired(datetime.now(UTC)):
        note(f"WARNING: {folder} {expiry(loaded.manifest, folder)}")
    return loaded


def held_out(artifact: Artifact, store: Path) -> DenoisingTable:
    """Read decodes of the artifact's own setting whose groups made no part of it.

    Raises
    ------
    InputError
        If they are of another setting, or a group was used.

    """
    table = load_store(store)
    require_setting(artifact, table, str(store))
    known = {name: used for name, used in artifact.splits.items() if not name.endswith(PROMPTS)}
    require_disjoint(table.groups, known, "Record decodes of other prompts")
    return table


def outcomes_table(rows: Sequence[HaltingOutcome], title: str, bold: str) -> Table:
    """Show rules side by side; the row named `bold` is set off."""
    table = Table(title=title, box=box.SIMPLE, pad_edge=False)
    table.add_column("rule", no_wrap=True)
    for name in ("passes", "fewer", "agree", "accuracy", "QPS"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("promise", no_wrap=True)
    for row in rows:
        table.add_row(
            escape(row.rule),
            f"{row.steps:.1f}",
            f"{row.speedup:.2f}x",
            f"{row.agreement:.1%}",
            "unknown" if row.accuracy is None else f"{row.accuracy:.1%}",
            "-" if row.qps is None else f"{row.qps:.2f}",
            "alpha" if row.guarantee == "risk" else "none",
            style="bold" if row.rule == bold else None,
        )
    return table


def verdict(row: HaltingOutcome, alpha: float) -> str:
    """Say in one line whether the promise was kept on these decodes."""
    low, high = row.interval or (0.0, 1.0)
    share = row.disagreement_share
    found = (
        f"{row.disagreements:.0f} of {row.n} came out otherwise ({share:.1%}, 95 % interval "
        f"{100 * low:.1f} to {100 * high:.1f} %)"
    )
    if share <= alpha:
        return f"{found}: alpha {alpha:g} kept, at {row.speedup:.2f}x fewer passes."
    if low <= alpha:
        return f"{found}: above alpha {alpha:g}, but within the noise of so few decodes."
    return (
        f"{found}: alpha {alpha:g} BROKEN, these decodes are not like those calibrated on "
        "(docs/guarantee.md: what breaks it)."
    )


def redrawn(found: Redraws) -> str:
    """Say in one line what repeated calibrations came to."""
    return (
        f"{found.count} levels for alpha {found.alpha:g} ({found.method}), each found on "
        f"{found.n_calibrate} of these decodes and judged on the other {found.n_test}: "
        f"{found.mean_risk:.2%} came out otherwise on average; {found.above} of them lay above "
        f"alpha, {found.clearly_above} clearly (95 %); {found.speedup:.2f}x fewer passes."
    )


def level_text(level: float) -> str:
    """Spell a level, infinities in words."""
    if math.isinf(level):
        return "never" if level > 0 else "at the first step"
    return f"{level:.6g}"
