"""How the comparison looks in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from adapters.vllm.baselines.comparison import Compared
from adapters.vllm.baselines.figures import Row

_PROMISES = {"risk": "share of bad stops", "tokens": "its tokens", "none": "none"}


def figures_table(found: Compared) -> Table:
    """Show what every rule risks and costs; tokens are means per prompt."""
    table = Table(
        title=f"{found.n_test} prompts, alpha {found.alpha:g}, loss '{found.loss}'",
        caption="Tokens are means per prompt. Extra: trials and overrun. Prefill: prompt tokens "
        "that the prefix cache did not hold.",
    )
    table.add_column("rule", no_wrap=True)
    for name in ("bad", "95 % interval", "accuracy", "thinking", "extra", "answer", "all",
                 "prefill", "wall, s", "CPU, s"):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("promises")
    for row in (found.full, *found.rows, found.oracle):
        style = "bold" if row.rule == "stopper" else None
        table.add_row(*_cells(row), style=style)
    return table


def _cells(row: Row) -> list[str]:
    low, high = row.bad_stop_interval
    certain = row.rule in ("full", "oracle")  # never changed badly: their zeros are no estimates
    return [
        row.title,
        "-" if certain else f"{row.bad_stop_share:.1%}",
        "-" if certain else f"{100 * low:.1f} - {100 * high:.1f}",
        "unknown" if row.accuracy is None else f"{row.accuracy:.1%}",
        f"{row.tokens:.1f}",
        f"{row.extra_tokens:.1f}",
        f"{row.answer_tokens:.1f}",
        f"{row.all_tokens:.1f}",
        f"{row.computed_prefill:.1f}",
        "-" if row.wall_s is None else f"{row.wall_s:.1f}",
        "-" if row.cpu_s is None else f"{row.cpu_s:.1f}",
        _PROMISES[row.guarantee],
    ]


def parameters_table(found: Compared) -> Table:
    """Show what was chosen for every rule, and what did not go smoothly."""
    table = Table(title="How they were run")
    table.add_column("rule", no_wrap=True)
    table.add_column("parameters")
    table.add_column("trials", justify="right")
    table.add_column("too late", justify="right")
    table.add_column("no room", justify="right")
    table.add_column("same trace", justify="right")
    for row in found.rows:
        table.add_row(
            row.title,
            _parameters(row.parameters),
            f"{row.trials:.2f}",
            str(row.late_trials),
            str(row.crowded),
            f"{row.main_equal_share:.1%}",
        )
    return table


def _parameters(parameters: Mapping[str, Any]) -> str:
    def shown(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.4g}"
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    return "; ".join(f"{name} {shown(value)}" for name, value in parameters.items()) or "-"
