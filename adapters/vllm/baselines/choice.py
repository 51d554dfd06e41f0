"""Which rules to run, with which parameters: what `--rule NAME[:KEY=VALUE,...]` means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from adapters.vllm.baselines import deer, dynasor, eat, thinkbrake
from stopper.errors import InputError

#: Rules by name, in the order of the table. The full trace, stopper and the oracle always run.
RULES = (
    "stopper", "budget", "no-thinking", "lynx", "deer", "dynasor", "eat", "thinkbrake", "nowait",
)  # fmt: skip
ALWAYS = ("full", "stopper", "oracle")
#: Rules whose parameters can be changed.
TUNABLE: Mapping[str, type[Any]] = {
    "deer": deer.Parameters,
    "dynasor": dynasor.Parameters,
    "eat": eat.Parameters,
    "thinkbrake": thinkbrake.Parameters,
}


@dataclass(frozen=True, slots=True)
class Choice:
    """A rule to run.

    Attributes
    ----------
    name
        One of `RULES`.
    suffix
        What was changed, as asked: "" or ":confidence=0.99".
    parameters
        Of the rule; None where it has none to change.
    """

    name: str
    suffix: str = ""
    parameters: Any = None

    @property
    def label(self) -> str:
        """Name and changes."""
        return self.name + self.suffix


def chosen(asked: Sequence[str] | None) -> list[Choice]:
    """Return the rules to run, in the order of the table; all of them if none is asked for.

    Raises
    ------
    InputError
        For an unknown rule or parameter, with the choices, or a value that does not fit.

    """
    choices = [_parse(text) for text in asked or RULES]
    always = [Choice("stopper")]
    unique = {choice.label: choice for choice in (*always, *choices) if choice.name in RULES}
    return sorted(unique.values(), key=lambda choice: RULES.index(choice.name))


def _parse(text: str) -> Choice:
    name, _, changes = text.partition(":")
    if name not in RULES and name not in ALWAYS:
        raise InputError(f"--rule {name}: not known; choose from {', '.join(RULES)}")
    kind = TUNABLE.get(name)
    if not changes:
        return Choice(name, "", kind() if kind else None)
    if kind is None:
        raise InputError(
            f"--rule {text}: {name} has no parameters; they are of {', '.join(TUNABLE)}"
        )
    defaults = {field.name: field.default for field in fields(kind)}
    given = {}
    for part in changes.split(","):
        key, _, value = part.partition("=")
        if key not in defaults:
            raise InputError(
                f"--rule {text}: no parameter {key!r}; {name} has {', '.join(defaults)}"
            )
        given[key] = _value(text, key, value, type(defaults[key]))
    return Choice(name, f":{changes}", kind(**given))


def _value(text: str, key: str, value: str, kind: type[Any]) -> float | int:
    try:
        number: float | int = kind(value)
    except ValueError:
        number = 0
    if not 0 < number < float("inf"):
        wanted = "a whole number" if kind is int else "a number"
        raise InputError(f"--rule {text}: {key}={value!r} is not {wanted} above 0")
    return number
