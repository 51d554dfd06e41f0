"""A fixed number of thinking tokens for everybody: the baseline that LYNX leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adapters.vllm.baselines.policy import Plan, Silent, Stop


class Budget(Silent):
    """Stop after `tokens` tokens of thinking."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._seen = 0

    def on_token(self, token: int, alternatives: Mapping[int, float]) -> Stop | None:
        """Count."""
        self._seen += 1
        return Stop(self._seen) if self._seen >= self._tokens else None


def matching(lengths: Sequence[int], tokens: float) -> int:
    """Return the budget B >= 1 whose mean of min(length, B) comes closest to `tokens`.

    Parameters
    ----------
    lengths
        Thinking tokens of the full traces, at least one.
    tokens
        Mean to meet.

    """
    budgets = range(1, max(1, *lengths) + 1)
    wanted = tokens * len(lengths)
    return min(budgets, key=lambda budget: abs(sum(min(n, budget) for n in lengths) - wanted))


def plan(lengths: Sequence[int], tokens: float) -> Plan:
    """Match the budget to the mean tokens of our rule on the same prompts.

    Only lengths are looked at, no label: the budget is as good as one of that size can be.
    """
    budget = matching(lengths, tokens)
    return Plan(
        name="budget",
        title="token budget",
        guarantee="tokens",
        parameters={"tokens": budget, "matched": "stopper's mean tokens on the same prompts"},
        policy=lambda prompt: Budget(budget),
    )
