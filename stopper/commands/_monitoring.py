"""What ``stopper monitor`` prints."""

from __future__ import annotations

from rich.table import Table

from calibration.monitor import Verdict


def monitor_table(verdict: Verdict, label: str) -> Table:
    """Show the figures of a verdict."""
    table = Table(title="drift monitor", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row("audits, marked badly", f"{verdict.audits}, {verdict.bad}")
    low, high = verdict.interval
    table.add_row(
        "running risk (95 %, at all times)", f"{verdict.share:.1%} ({low:.1%} - {high:.1%})"
    )
    for alpha, audits, bad in verdict.tallies[:10] if len(verdict.tallies) > 1 else ():
        table.add_row(f"... at alpha {alpha:g}", f"{bad} of {audits} ({bad / audits:.1%})")
    if len(verdict.tallies) > 10:
        table.add_row("... at other alphas", f"{len(verdict.tallies) - 10} more")
    if verdict.mean_alpha is not None:
        table.add_row("alpha (mean of the audits)", f"{verdict.mean_alpha:g}")
    table.add_row(label, f"{verdict.value:.3g}")
    table.add_row("alarm at", f"{verdict.bar:.3g}")
    table.add_row("alarm", "no" if verdict.since is None else f"since audit {verdict.since}")
    watched = ", ".join(verdict.watched) or "nothing"
    table.add_row("profile watched", watched)
    table.add_row("profile warnings", str(len(verdict.warnings)))
    return table
