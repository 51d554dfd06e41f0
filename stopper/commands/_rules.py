"""The options of the stopping rules, which `calibrate` and `compare` share."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any

import typer

HopelessShare = Annotated[
    float | None,
    typer.Option(help="hopeless: share of alpha for the upper threshold.", show_default="0.8"),
]
HopelessAfter = Annotated[
    int | None,
    typer.Option(
        help="hopeless: give up from so many thinking tokens on, stated beforehand.",
        metavar="TOKENS",
        show_default="0",
    ),
]
BonferroniCues = Annotated[
    int | None,
    typer.Option(help="bonferroni: cues looked at, stated beforehand.", show_default="10"),
]
Budget = Annotated[
    float | None,
    typer.Option(help="budget: mean thinking tokens to keep within.", metavar="TOKENS"),
]
Longest = Annotated[
    float | None,
    typer.Option(help="budget: no trace can have more thinking tokens.", metavar="TOKENS"),
]
LookDelta = Annotated[
    float | None,
    typer.Option(help="second-look: half the window, in logits.", show_default="1"),
]
LookSignal = Annotated[
    str | None,
    typer.Option(
        help="second-look: repeats, confidence or both.", metavar="NAME", show_default="both"
    ),
]

_OWNERS = {
    "hopeless_share": ("hopeless", "share"),
    "hopeless_after": ("hopeless", "after"),
    "bonferroni_cues": ("bonferroni", "cues"),
    "budget": ("budget", "tokens"),
    "longest": ("budget", "longest"),
    "look_delta": ("second-look", "delta"),
    "look_signal": ("second-look", "signal"),
}


def options_by_rule(rules: Collection[str], **given: object) -> dict[str, dict[str, Any]]:
    """Sort the options that were given by the rule they belong to.

    Raises
    ------
    InputError
        Where one belongs to a rule that is not among `rules`: it would have no effect.
    """
    from stopper.errors import InputError

    sorted_: dict[str, dict[str, Any]] = {}
    for name, value in given.items():
        if value is None:
            continue
        rule, option = _OWNERS[name]
        if rule not in rules:
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{flag} belongs to the rule '{rule}'; leave it out or choose that")
        sorted_.setdefault(rule, {})[option] = value
    return sorted_
