"""Answers to "stop thinking now", which a user asks of one running request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Outcome = Literal["stopping", "already_stopping", "not_thinking", "not_watched", "unknown"]
"""What comes of it; a closed set.

stopping: the thinking is closed with the next step. already_stopping: it is being closed, or was
asked for before. not_thinking: the request answers already, or has not begun to think. not_watched:
stopper has no hand in this request, and `Asked.reason` says why. unknown: finished, or never seen.
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """The answer of one worker, or of the watch in it.

    Attributes
    ----------
    outcome
        See `Outcome`.
    reason
        Why a request is not watched: the reason in its decision, `stopped_before` where it was
        stopped once and thinks again, `collection` while collecting, `fault` for one of ours.
    request_ids
        The engine's ids of the requests meant: several where one response has several choices.

    """

    outcome: Outcome
    reason: str | None = None
    request_ids: tuple[str, ...] = ()

    @property
    def stays(self) -> bool:
        """Whether the wish is kept: a stop under way may be undone with the tokens it rests on."""
        return self.outcome in ("stopping", "already_stopping")


STOPPED_BEFORE = "stopped_before"
FAULT = "fault"


def judge(*, asked: bool, inside: bool, since_stop: int | None, closing: int) -> Asked:
    """Answer for a request under watch.

    A step may hold drafts that are rejected afterwards, so everything is said of the last token
    that is certain. What the drafts held shows at the next step.

    Parameters
    ----------
    asked
        Whether it was asked for before.
    inside
        Whether the next token belongs to the thinking.
    since_stop
        Tokens since the one after which the closing was forced; None while nothing was forced.
    closing
        Tokens that are forced.

    """
    if since_stop is not None:
        if since_stop < closing:
            return Asked("already_stopping")
        return Asked("not_watched", STOPPED_BEFORE) if inside else Asked("not_thinking")
    if not inside:
        return Asked("not_thinking")
    return Asked("already_stopping" if asked else "stopping")


def together(each: Sequence[Asked]) -> Asked:
    """Answer for a response that is several requests: what was achieved in any of them."""
    order = get_args(Outcome)
    return min(each, key=lambda one: order.index(one.outcome), default=Asked("unknown"))
