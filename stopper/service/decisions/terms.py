"""What an event is judged by: an artifact's threshold at an alpha, or a schedule."""

from __future__ import annotations

import hashlib

import msgspec

from stopper.errors import InputError
from stopper.schedule import Schedule
from stopper.service.catalog import Served
from stopper.service.decisions.answers import refused
from stopper.service.decisions.margins import by_rule
from stopper.service.problems import ProblemError, refuse
from stopper.wire import Decision, DecisionEvent


class Terms(msgspec.Struct, gc=False):
    """What an event is judged by.

    Attributes
    ----------
    served
        None for a schedule.
    width
        Of the hidden state that its probe reads; None without a probe.
    asked
        The event's alpha; None took the default.
    withheld
        This replica may decide nothing by it.

    """

    served: Served | None
    version: str
    weight: float
    alpha: float | None
    threshold: float
    width: int | None
    asked: float | None = None
    withheld: bool = False


class Look(msgspec.Struct, gc=False):
    """One event on its way; `level` is NaN until its hidden state is scored.

    `gated`: the halting rule waits for the argmax to stay.
    """

    index: int
    event: DecisionEvent
    terms: Terms
    level: float
    gated: bool = False


def terms_of(served: Served, alpha: float) -> Terms:
    """Return the terms of an artifact at an alpha; a problem (422) where it has none for it."""
    if not 0.0 < alpha < 1.0:
        refuse("unprocessable", "alpha must lie between 0 and 1, both excluded.")
    try:
        limit = served.threshold(alpha)
    except InputError as error:
        raise ProblemError("unprocessable", str(error)) from None
    probe = served.probe
    return Terms(
        served,
        served.version,
        served.weight,
        alpha,
        limit,
        None if probe is None else probe.spec.input_dim,
    )


def judged(look: Look) -> Look:
    """Score the margins of an event by the halting rule of its terms, if there is one."""
    served = look.terms.served
    if served is not None and served.halting is not None and look.event.logit_margins is not None:
        look.level, look.gated = by_rule(served.halting.rule, look.event)
    return look


def moved(look: Look, served: Served, alpha: float, answers: dict[int, Decision]) -> bool:
    """Judge an event on the terms its trace began with; say whether they can be had."""
    try:
        look.terms = terms_of(served, alpha)
        judged(look)
    except ProblemError as error:
        answers[look.index] = refused(look.event, error.name, error.problem.detail)
        return False
    return True


def version_of(schedule: Schedule | None) -> str:
    """Name a schedule, so that a trace which began under another one is known."""
    return "schedule-" + hashlib.sha256(repr(schedule).encode()).hexdigest()[:16]
