"""The stopping rules by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from calibration.rules.base import FittedRule, Rule, option_names
from calibration.rules.beta_mixture import BetaMixture
from calibration.rules.bonferroni import Bonferroni
from calibration.rules.budget import Budget
from calibration.rules.hopeless import Hopeless
from calibration.rules.level import Level
from calibration.rules.patience import Patience
from calibration.rules.per_cue import Lynx, Mapie
from calibration.rules.q_exit import QExit
from calibration.rules.second_look import SecondLook
from calibration.rules.timer import Timer
from probes.errors import InputError

DEFAULT_RULE = "level"

_ALL: tuple[type[Rule], ...] = (
    Level, Hopeless, SecondLook, QExit, Patience, Timer, Bonferroni, Budget,
    BetaMixture, Lynx, Mapie,
)  # fmt: skip

RULES: Mapping[str, type[Rule]] = MappingProxyType({rule.name: rule for rule in _ALL})


def rule_class(name: str) -> type[Rule]:
    """Look a rule up; an unknown name raises InputError listing the choices."""
    if name not in RULES:
        raise InputError(f"rule {name!r} is unknown; choose one of {', '.join(RULES)}.")
    return RULES[name]


def make_rule(name: str, options: Mapping[str, Any] | None = None) -> Rule:
    """Make a rule; unknown, missing and wrong options raise InputError."""
    cls, given = rule_class(name), dict(options or {})
    known = option_names(cls)
    for option in given:
        if option not in known:
            has = f"its options are {', '.join(known)}" if known else "it has none"
            raise InputError(f"rule '{name}' has no option {option!r}; {has}.")
    try:
        return cls(**given)
    except TypeError:  # all that is left: an option without a default is missing
        missing = ", ".join(option for option in known if option not in given)
        raise InputError(f"rule '{name}' needs the option {missing}.") from None


def restore(name: str, parameters: Mapping[str, Any], promise: str = "") -> FittedRule:
    """Make a fitted rule of `FittedRule.parameters`; raises InputError where they are damaged."""
    numbers = rule_class(name).numbers
    options = {key: value for key, value in parameters.items() if key not in numbers}
    return make_rule(name, options).restore(parameters, promise)
