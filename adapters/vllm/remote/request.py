"""What the remote mode knows of one request, and what it says of it afterwards."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from adapters.vllm.host_tracker import RING, TrackedRequest
from adapters.vllm.watch import Outcome
from stopper.wire import Decision

#: Reasons with which the sidecar itself fails open, and those by which it stops nobody.
_FAILED = {"store_unavailable", "artifact_changed", "artifact_unavailable", "refused"}
_NOT_APPLIED = {"kill_switch", "alarm", "too_few_calibration_traces"}


@dataclass(slots=True)
class Told:
    """What the sidecar was asked about a request, and what became of it.

    Attributes
    ----------
    trace
        The trace's name there; another one for every request of every start of the engine.
    alpha
        Sent along.
    asked_to
        Position of the newest cue that was asked about; absolute.
    events, answered
        Cues asked about, and decisions that came in time.
    lost
        Cues that nothing was decided on, by cause.
    last
        The newest decision that came in time.
    not_finite
        Decisions on a score that is not finite.
    decided
        The one that stopped the trace, or that marked it in an audit.
    missed
        Why a stop was not carried out.

    """

    trace: str
    alpha: float
    asked_to: int = -1
    events: int = 0
    answered: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    last: Decision | None = None
    not_finite: int = 0
    decided: Decision | None = None
    missed: str | None = None


@dataclass(slots=True)
class RemoteRequest(TrackedRequest):
    """A request under watch; `told` is None where a local rule decides (mode "fixed").

    `fed` holds the newest tokens by position, up to `fed_to`, to tell a step that is run again
    from another trace. `wished` tells that a user asked to stop thinking.
    """

    told: Told | None = None
    wished: bool = False
    fed_to: int = -1
    fed: list[int] = field(default_factory=lambda: [-1] * RING)


@dataclass(frozen=True, slots=True)
class RemoteOutcome(Outcome):
    """An outcome with what the record says of the sidecar; None where it was not asked."""

    remote: dict[str, Any] | None = None


def remote_fields(request: RemoteRequest, told: Told) -> dict[str, Any]:
    """Return what the request's record says besides, or otherwise, in remote mode.

    `decision` and `reason` are there only where they differ from what a local record would say.
    """
    decision = told.decided or (None if request.asked else told.last)
    fields: dict[str, Any] = {
        "threshold": decision.threshold if decision else None,
        "remote": {
            "trace": told.trace,
            "events": told.events,
            "answered": told.answered,
            "late": told.lost["remote_late"],
            "lost": told.lost.total() - told.lost["remote_late"],
            "unanswered": told.events - told.answered - told.lost.total(),
            "causes": dict(told.lost),
        },
    }
    if decision is not None and decision.artifact is not None:
        fields["artifact"] = decision.artifact
    if told.decided is not None:
        fields["reason"] = told.decided.reason
        if request.forces and request.stop is not None:
            forced = request.stop.position - request.prompt_len + 1
            fields["forced_position"] = forced
            fields["remote"]["lag_tokens"] = forced - told.decided.position
        return fields
    if request.asked or not told.events:
        return fields  # closed at a user's wish, or there was no cue
    fields["decision"], fields["reason"] = _undecided(told)
    return fields


def _undecided(told: Told) -> tuple[str, str]:
    if told.missed in ("remote_thinking_over", "remote_request_over"):
        return "not_applied", told.missed
    if told.missed is not None:
        return "failed_open", told.missed
    if told.last is None:
        ((cause, _),) = told.lost.most_common(1) or (("remote_unanswered", 0),)
        return "failed_open", cause
    reason = told.last.reason
    if reason in _NOT_APPLIED:
        return "not_applied", reason
    return "failed_open" if reason in _FAILED else "not_stopped", reason


def failed_reason(decision: Decision) -> str | None:
    """Return the cause to count where the sidecar itself could not decide."""
    return f"remote_{decision.reason}" if decision.reason in _FAILED else None


def score_of(decision: Decision) -> float:
    """Return the decision's score, NaN without one."""
    return math.nan if decision.score is None else decision.score
