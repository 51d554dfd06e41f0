"""The full trace, no thinking at all, and stopper itself."""

from __future__ import annotations

from adapters.vllm.baselines.policy import Plan


def full() -> Plan:
    """Let the model think to its end."""
    return Plan(name="full", title="full", guarantee="none", parameters={})


def no_thinking() -> Plan:
    """Close the thinking before it begins (arXiv 2504.09858)."""
    return Plan(
        name="no-thinking",
        title="no thinking",
        guarantee="none",
        parameters={},
        thinks=False,
    )


def stopper(alpha: float, method: str, confidence: float | None) -> Plan:
    """Run the artifact's rule inside the engine."""
    parameters = {"alpha": alpha, "method": method}
    if confidence is not None:
        parameters["confidence"] = confidence
    return Plan(name="stopper", title="stopper", guarantee="risk", parameters=parameters, mode=1)
