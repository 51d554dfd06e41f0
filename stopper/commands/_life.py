"""What the commands about an artifact's life print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from stopper.comparison import Comparison, Difference
from stopper.replaying import Summary

_LONGEST = 160


def replay_table(summary: Summary, alpha: float, threshold: float, loss: str) -> Table:
    """Show what a replay came to."""
    found = summary.to_json()
    title = f"replayed at alpha {alpha:g}, stop above {threshold:.6g}"
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row("traces", str(summary.traces))
    table.add_row("stopped early", _share(found["stopped"], summary.traces))
    for name in ("good", "bad", "unknown"):
        if found[name] or name != "unknown":
            table.add_row(f"... {name} (loss '{loss}')", _share(found[name], summary.traces))
    saved = 1 - summary.tokens / summary.tokens_full if summary.tokens_full else 0.0
    full, mean = found["mean_tokens_full"], found["mean_tokens"]
    table.add_row("mean thinking tokens", f"{mean:.1f} of {full:.1f} ({saved:.1%} saved)")
    for name, count in found["reasons"].items():
        table.add_row(name.replace("_", " "), str(count))
    return table


def difference_table(differences: Sequence[Difference]) -> Table:
    """Show both sides of each field that differs."""
    table = Table(title="differences", title_justify="left")
    table.add_column("field", style="bold", overflow="fold")
    table.add_column("A", overflow="fold")
    table.add_column("B", overflow="fold")
    for one in differences:
        table.add_row(escape(one.field), escape(_short(one.ours)), escape(_short(one.theirs)))
    return table


def replacement(found: Comparison, first: Path, second: Path) -> Iterator[str]:
    """Say whether the second artifact may take the first one's place."""
    if found.obstacles:
        yield f"B ({second}) may NOT replace A ({first}) under running traffic:"
        yield from (f"  - {reason}" for reason in found.obstacles)
        return
    yield (
        f"B ({second}) may replace A ({first}) under running traffic: "
        "the same model, cues and closing."
    )
    yield from (f"  - mind: {reason}" for reason in found.cautions)


def _share(count: int, of: int) -> str:
    return f"{count} ({count / of:.1%} of all)"


def _short(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"
