"""Stopping rules behind one interface: fit, stops, extra tokens, parameters, promise."""

from calibration.rules.base import FittedRule, Guarantee, Rule, Terms
from calibration.rules.registry import DEFAULT_RULE, RULES, make_rule, restore, rule_class
from calibration.rules.scored import ScoredRule, TraceRule

__all__ = [
    "DEFAULT_RULE",
    "RULES",
    "FittedRule",
    "Guarantee",
    "Rule",
    "ScoredRule",
    "Terms",
    "TraceRule",
    "make_rule",
    "restore",
    "rule_class",
]
