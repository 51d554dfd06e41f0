"""How the comparison looks in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from adapters.vllm.baselines.comparison import Compared
from adapters.vllm.baselines.figures import Row

_PROMISES = {"risk": "bad stops", "tokens": "tokens", "none": "-"}


def risk_table(found: Compared) -> Table:
    """Show what every rule promises, risks and saves; fits a terminal of 80 columns."""
    table = Table(
        title=f"{found.n_test} prompts, alpha {found.alpha:g}, loss '{found.loss}'",
        caption="Bad: changed by the rule, and badly so. Tokens: all that were generated, per "
        "prompt, trials included.",
    )
    _columns(table, "promises", "bad", "95 % interval", "accuracy", "tokens")
    full = found.full
    for row in (full, *found.rows, found.oracle):
        low, high = row.bad_stop_interval
        certain = row.rule in ("full", "oracle")  # never bad: their zeros are no estimates
        _add(
            table,
            row,
            _PROMISES[row.guarantee],
            "-" if certain else f"{row.bad_stop_share:.1%}",
            "-" if certain else f"{100 * low:.1f} - {100 * high:.1f}",
            "unknown" if row.accuracy is None else f"{row.accuracy:.1%}",
            f"{row.all_tokens:.1f}" + ("" if row is full else f" ({_cut(full, row):+.0%})"),
        )
    return table


def _cut(full: Row, row: Row) -> float:
    return row.all_tokens / full.all_tokens - 1 if full.all_tokens else 0.0


def cost_table(found: Compared) -> Table:
    """Show what every rule costs; fits a terminal of 80 columns."""
    table = Table(
        title="What it costs, per prompt",
        caption="Extra: trials, and what the thinking ran on while they decided. Prefill: prompt "
        "tokens that the prefix cache did not hold. Seconds are for all prompts.",
    )
    _columns(table, "thinking", "extra", "answer", "prefill", "wall, s", "CPU, s")
    for row in (found.full, *found.rows, found.oracle):
        _add(
            table,
            row,
            f"{row.tokens:.1f}",
            f"{row.extra_tokens:.1f}",
            f"{row.answer_tokens:.1f}",
            f"{row.computed_prefill:.1f}",
            "-" if row.wall_s is None else f"{row.wall_s:.1f}",
            "-" if row.cpu_s is None else f"{row.cpu_s:.1f}",
        )
    return table


def _columns(table: Table, *names: str) -> None:
    table.add_column("rule", overflow="fold")  # a long one, with parameters, is broken
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)


def _add(table: Table, row: Row, *cells: str) -> None:
    table.add_row(row.title, *cells, style="bold" if row.rule == "stopper" else None)


def parameters_table(found: Compared) -> Table:
    """Show what was chosen for every rule, and what did not go smoothly."""
    table = Table(
        title="How they were run",
        caption="Changed: prompts that the rule stopped, or wrote otherwise. Same trace: prompts "
        "whose thinking is the full one's, as far as it went.",
    )
    crowded = any(row.crowded for row in found.rows)
    table.add_column("rule", overflow="fold")
    table.add_column("parameters")
    for name in ("changed", "trials", "too late", *(["no room"] if crowded else []), "same trace"):
        table.add_column(name, justify="right")
    for row in found.rows:
        table.add_row(
            row.title,
            _parameters(row.parameters),
            f"{row.stopped_share:.1%}",
            f"{row.trials:.2f}",
            str(row.late_trials),
            *([str(row.crowded)] if crowded else []),
            f"{row.main_equal_share:.1%}",
        )
    return table


def _parameters(parameters: Mapping[str, Any]) -> str:
    def shown(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.4g}"
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    return "; ".join(f"{name} {shown(value)}" for name, value in parameters.items()) or "-"
