"""LYNX (arXiv 2512.05325): its per-cue conformal threshold on our probe, inside the engine."""

from __future__ import annotations

from adapters.vllm.baselines.policy import Plan


def plan(threshold: float, delta: float) -> Plan:
    """Stop at the first cue above LYNX's threshold, carried out by the plugin.

    It bounds the error of one cue, not that of a request: no promise for requests.
    """
    return Plan(
        name="lynx",
        title="LYNX",
        guarantee="none",
        parameters={"delta": delta, "threshold": threshold, "per": "cue", "probe": "ours"},
        mode="fixed",
    )
