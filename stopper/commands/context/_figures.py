"""The tables that ``stopper context evaluate`` prints."""

from __future__ import annotations

from rich.table import Table

from calibration.dropping import interval
from stopper.relevance.evaluating import Judgement


def judgement_table(found: Judgement) -> Table:
    """Return the figures at the calibrated threshold, and the curve's points by recall."""
    at = found.at_alpha
    low, high = interval(at.hurt, at.queries)
    table = Table(title=f"held-out queries at alpha {found.alpha:g}", show_header=False)
    table.title_justify = "left"
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")
    table.add_row("queries", str(at.queries))
    table.add_row("distractors", f"{found.mix.hard} of the article, {found.mix.random} of others")
    area = "none: every sentence is needed" if found.auroc is None else f"{found.auroc:.4f}"
    table.add_row("AUROC", area)
    share = f"{at.risk:.1%} (95 % interval {low:.1%} to {high:.1%})"
    table.add_row("queries with a loss", f"{at.hurt}, {share}")
    table.add_row("needed sentences kept", f"{at.kept} of {at.needed}, {at.recall:.1%}")
    table.add_row("tokens kept", f"{at.tokens_out} of {at.tokens_in}, {at.share:.1%}")
    for recall, one in found.at_recall.items():
        table.add_row(f"tokens kept at recall {recall:g}", f"{one.share:.1%} (answers known)")
    return table


def repeats_table(found: Judgement) -> Table:
    """Return how calibrations on random parts did on the rest."""
    table = Table(title=f"recalibrated on random parts, alpha {found.alpha:g}")
    table.title_justify = "left"
    for title in (
        "drawn by",
        "method",
        "repeats",
        "mean loss",
        "above alpha",
        "clearly above",
        "tokens kept",
    ):
        table.add_column(title, justify="left" if title in ("drawn by", "method") else "right")
    for one in found.repeats:
        cells = (str(one.count), f"{one.mean_risk:.2%}", str(one.above), str(one.clearly_above))
        table.add_row(one.unit, one.method, *cells, f"{one.mean_share:.1%}")
    return table
