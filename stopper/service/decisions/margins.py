"""Events that carry the logit margins of a denoising step become scores; pure."""

from __future__ import annotations

import math

import numpy as np

from probes.margins import aggregate
from stopper.halting import HaltingRule
from stopper.schedule import Schedule, mean_margin
from stopper.service.problems import refuse
from stopper.wire import DecisionEvent

_NAN = float("nan")


def refuse_strays(event: DecisionEvent) -> None:
    """Refuse what only margins may bring along."""
    if event.progress is not None or event.argmax_changed is not None:
        refuse(
            "unprocessable", "progress and argmax_changed belong to logit_margins; leave them out."
        )


def by_schedule(schedule: Schedule | None, event: DecisionEvent) -> tuple[float, float]:
    """Return the mean margin of an event and the hand-picked threshold at its progress.

    Raises
    ------
    ProblemError
        422 if there is no schedule, or the event is not fit for one.

    """
    if schedule is None:
        refuse(
            "unprocessable",
            "This sidecar has no schedule for logit margins, and no artifact with a halting rule "
            f"serves model {event.model!r}; set `schedule` in its settings, or serve an artifact "
            "of `stopper diffusion calibrate`.",
        )
    margins, progress = _read(event)
    if event.alpha is not None:
        refuse("unprocessable", "A schedule keeps no alpha; leave it out.")
    return float(mean_margin(margins)), float(schedule.threshold(progress))


def by_rule(rule: HaltingRule, event: DecisionEvent) -> tuple[float, bool]:
    """Return the score of an event, and whether the rule's gate is closed.

    Returns
    -------
    float
        A float32 value; NaN, which never halts, where the gate is closed or it is not finite.
    bool
        The rule waits for the argmax to stay.

    Raises
    ------
    ProblemError
        422 if the event lacks what the rule needs.

    """
    margins, progress = _read(event)
    if rule.stable_argmax and event.argmax_changed is None:
        refuse(
            "unprocessable",
            f"The halting rule of model {event.model!r} waits for a stable argmax; send "
            "argmax_changed: whether a masked position's argmax differs from the step before, and "
            "true at a block's first step.",
        )
    changed = event.argmax_changed is True
    with np.errstate(over="ignore"):
        row = np.asarray(margins, dtype=np.float32)[np.newaxis]
    signal = aggregate(row, np.ones_like(row, dtype=np.bool_), rule.aggregate)[0]
    score = float(rule.score(signal, progress, changed))
    return score if math.isfinite(score) else _NAN, rule.stable_argmax and changed


def _read(event: DecisionEvent) -> tuple[list[float], float]:
    margins, progress = event.logit_margins, event.progress
    assert margins is not None
    if progress is None or not 0.0 <= progress <= 1.0:
        refuse("unprocessable", "logit_margins need progress, a number in [0, 1].")
    if not all(map(math.isfinite, margins)):
        refuse("unprocessable", "logit_margins must be finite numbers.")
    return margins, progress
