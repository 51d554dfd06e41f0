"""Reads the sidecar's answer to a batch and believes nothing of it unchecked. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from stopper.wire import Decision, DecisionEvent, Decisions, Problem


class Garbage(ValueError):  # noqa: N818 - reads as a sentence where it is raised
    """Not an answer to what was asked."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one event.

    Attributes
    ----------
    decision
        None where there is none.
    cause
        Why the decision is missing or must not be carried out; None where all is well.

    """

    request_id: str
    position: int
    decision: Decision | None
    cause: str | None = None


_decoder = msgspec.msgpack.Decoder(Decisions)


def read_answers(
    events: Sequence[DecisionEvent], content: bytes, version: str | None
) -> list[Answer]:
    """Match decisions to the events they answer.

    Parameters
    ----------
    events
        As they were sent.
    content
        MessagePack of `Decisions`.
    version
        The artifact's short name that decisions must carry; None takes any.

    Raises
    ------
    Garbage
        If it cannot be read or answers something else.

    """
    try:
        decisions = _decoder.decode(content).decisions
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Garbage(f"an answer that cannot be read: {error}") from None
    if len(decisions) != len(events):
        raise Garbage(f"{len(decisions)} answers to {len(events)} events")
    return [_answer(*pair, version) for pair in zip(events, decisions, strict=True)]


def _answer(event: DecisionEvent, decision: Decision, version: str | None) -> Answer:
    if (decision.request_id, decision.position) != (event.request_id, event.position):
        raise Garbage("an answer to another event")
    cause = None
    # "Go on, for nothing can be decided" may come without an artifact's name; a stop may not.
    unnamed = () if decision.stop else (None,)
    if decision.problem is not None or decision.reason == "refused":
        cause = "remote_refused"
    elif decision.stop and (
        event.audit is True  # an audit is never stopped
        or decision.alpha != event.alpha
        or not _finite(decision.score)
    ):
        raise Garbage("a stop that does not fit what was asked")
    elif version is not None and decision.artifact not in (version, *unnamed):
        cause = "remote_artifact"
    return Answer(event.request_id, event.position, decision, cause)


def _finite(score: float | None) -> bool:
    return score is None or math.isfinite(score)


def read_problem(content: bytes) -> str:
    """Return what a problem document (RFC 9457) says, or nothing if it is none."""
    try:
        found = msgspec.json.decode(content, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return f": {found.title}. {found.detail}".rstrip(". ")[:500]
