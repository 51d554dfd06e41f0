"""How the demo looks in a terminal: a few traces with the stop marked, then the table."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from adapters.vllm.demo import Comparison


def show_traces(console: Console, found: Comparison, tokenizer: Any, count: int) -> None:
    """Print some stopped traces: what was thought, where it ended, what was spared."""
    stopped = [number for number, stop in enumerate(found.stops) if stop is not None]
    for number in stopped[:count]:
        prompt, stop = found.prompts[number], found.stops[number]
        full = found.full.traces[number]
        spared = full.output_ids[stop : full.thinking_tokens]
        text = Text(tokenizer.decode(full.output_ids[:stop]).strip())
        text.append("  ■ stopped here ", style="bold white on red")
        text.append(f"\n{tokenizer.decode(spared).strip()}", style="dim strike")
        bad = found.bad[number]
        text.append("\n\nanswer when stopped: ", style="bold")
        text.append(str(found.stopped.answers[number]), style="red" if bad else "green")
        text.append(f"   full trace: {found.full.answers[number]}   gold: {prompt.answer}")
        saved = f"{len(spared)} of {full.thinking_tokens} thinking tokens spared"
        console.print(Panel(text, title=_question(prompt.messages), subtitle=saved))


def _question(messages: list[dict[str, Any]] | None) -> str:
    if not messages:
        return "prompt"
    words = str(messages[-1].get("content", ""))
    return words if len(words) <= 90 else words[:87] + "..."


def results_table(found: Comparison) -> Table:
    """Return the table of the demo's figures."""
    figures = found.to_json()
    table = Table(title=f"{figures['n_test']} held-out prompts, alpha {figures['alpha']:g}")
    table.add_column("")
    for name in ("full", "stopped", "oracle"):
        table.add_column(name, justify="right")
    full, stopped = figures["full"], figures["stopped"]
    oracle = found.evaluation.oracle

    def percent(value: float | None) -> str:
        return "unknown" if value is None else f"{100 * value:.1f} %"

    def cut(before: float, after: float) -> str:
        return f"{after:.1f} ({100 * (after / before - 1):+.0f} %)"

    table.add_row(
        "accuracy",
        percent(full["accuracy"]),
        percent(stopped["accuracy"]),
        percent(oracle.accuracy),
    )
    table.add_row(
        "thinking tokens",
        f"{full['tokens']:.1f}",
        cut(full["tokens"], stopped["tokens"]),
        cut(full["tokens"], oracle.tokens),
    )
    table.add_row("wall-clock, s", f"{full['wall_s']:.1f}", cut(full["wall_s"], stopped["wall_s"]))
    table.add_row("stopped early", "", str(figures["stopped_early"]))
    low, high = figures["bad_stop_interval"]
    table.add_row(
        f"stopped badly ({figures['loss']})",
        "",
        f"{figures['bad_stops']} = {percent(figures['bad_stop_share'])}",
    )
    table.add_row("  95 % interval", "", f"{100 * low:.1f} to {100 * high:.1f} %")
    table.add_row("  promised at most", "", percent(figures["alpha"]))
    table.add_row("engine = offline", "", percent(figures["engine_offline_agreement"]))
    return table
