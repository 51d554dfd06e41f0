"""What is reported of a request: one flat record of what was decided and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adapters.vllm.journal import finite
from adapters.vllm.watch import Outcome


@dataclass(slots=True)
class Admitted:
    """What the report says of a request besides its outcome.

    A request with a `reason` is not under watch, and that is why.
    """

    mode: str
    prompt_tokens: int
    alpha: float | None
    threshold: float
    reason: str | None = None


def nothing_seen(request_id: str) -> Outcome:
    """Return the outcome of a request that is not under watch."""
    return Outcome(request_id, 0, 0, None, float("nan"))


def record(
    outcome: Outcome,
    admitted: Admitted,
    labels: tuple[str, ...],
    artifact: str,
    *,
    running: bool,
) -> dict[str, Any]:
    """Return the record of docs/vllm.md; NaN and infinity are None in it.

    Parameters
    ----------
    labels
        Names of the automaton's cues; code i + 1 is label i.
    artifact
        Its short name.
    running
        Whether the request goes on, as far as the worker has heard.

    """
    at = outcome.stop_position
    if admitted.reason is not None:
        decision, reason = admitted.mode, admitted.reason
    elif outcome.failure:
        decision, reason = "failed_open", outcome.failure
    elif at is None:
        decision = "not_stopped"
        reason = "score_below_threshold" if outcome.cues else "no_cue"
    elif outcome.asked:
        decision, reason = "stopped", "asked_to_stop"
    else:
        decision = "marked" if admitted.mode == "audit" else "stopped"
        reason = "score_above_threshold"
    if admitted.mode == "fixed" and reason.startswith("score_"):
        reason += "_without_promise"
    label = next((cue.label for cue in outcome.seen if cue.position == at), None)
    first = admitted.prompt_tokens - 1
    found: dict[str, Any] = finite(
        {
            "request_id": outcome.request_id,
            "decision": decision,
            "reason": reason,
            "position": None if at is None else at - first,
            "score": None if at is None else outcome.stop_score,
            "threshold": None if outcome.asked else admitted.threshold,
            "alpha": admitted.alpha,
            "cue": None if label is None else labels[label - 1],
            "cues": outcome.cues,
            "top_score": outcome.top_score,
            "cue_scores": [[cue.position - first, cue.score] for cue in outcome.seen],
            "prompt_tokens": admitted.prompt_tokens,
            "artifact": artifact,
            "running": running,
        }
    )
    return found
