"""What the store made of an event becomes the decision on it. Pure."""

from __future__ import annotations

from typing import Literal, Protocol

from stopper.service.problems import problem
from stopper.service.store import Advanced
from stopper.wire import Decision, DecisionEvent, Reason

Silence = Literal["kill_switch", "alarm"]

Undecided = Literal["store_unavailable", "artifact_changed", "artifact_unavailable"]

Item = DecisionEvent | Decision
"""An event, or its answer where that is known already (a refusal)."""

_INF = float("inf")


class Identified(Protocol):
    """Whatever names an event."""

    @property
    def request_id(self) -> str:
        """Return the trace."""

    @property
    def position(self) -> int:
        """Return the place in it."""


def refused(event: Identified, name: str, detail: str) -> Decision:
    """Answer that an event cannot be decided on, by a problem of `problems.TITLES`."""
    found = problem(name, detail, event.request_id)
    return Decision(
        event.request_id, event.position, False, "refused", None, None, None, None, problem=found
    )


def undecided(
    event: Identified,
    reason: Undecided,
    alpha: float | None = None,
    artifact: str | None = None,
) -> Decision:
    """Answer that the trace goes on because nothing can be decided."""
    return Decision(event.request_id, event.position, False, reason, None, None, alpha, artifact)


def decided(
    event: Identified,
    step: Advanced,
    silence: Silence | None,
    schedule: bool,
    gated: bool = False,
) -> Decision:
    """Answer a step that the store has taken.

    An audited trace goes its way whatever operators and the alarm have decided, for its marks say
    whether the alarm is right. Any other is silenced as a whole.

    Parameters
    ----------
    silence
        Why nothing may be stopped; None if it may.
    schedule
        It is a margin against a schedule rather than a score against a threshold.
    gated
        A halting rule waits for the argmax to stay.

    """
    score, threshold = step.score, step.threshold
    finite = -_INF < score < _INF
    reason: Reason
    if silence is not None and not step.audit:
        reason = silence
    elif gated:
        reason = "argmax_changed"
    elif not finite:
        reason = "score_not_finite"
    elif threshold == _INF:
        reason = "too_few_calibration_traces"
    elif step.passes and step.audit:
        reason = "audit"
    elif schedule:
        reason = "margin_above_schedule" if step.passes else "margin_below_schedule"
    else:
        reason = "score_above_threshold" if step.passes else "score_below_threshold"
    return Decision(
        event.request_id,
        event.position,
        step.passes and not step.audit and silence is None,
        reason,
        score if finite else None,
        threshold if -_INF < threshold < _INF else None,
        step.alpha,
        None if schedule else step.artifact,
        step.audit and step.marked,
    )
