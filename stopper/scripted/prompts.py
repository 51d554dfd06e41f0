"""Renders prompts, and finds the trace that a prompt is for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from stopper.errors import InputError
from stopper.scripted.script import Script, Trace
from stopper.scripted.tokens import END_OF_THINKING, THINK

HEADER = "X-Scripted-Trace"
_REMEMBERED = 10_000


def render(messages: Sequence[Mapping[str, Any]]) -> str:
    """Render a chat as the scripted model's template would; the thinking is open at its end.

    Raises
    ------
    InputError
        If a message is none, or has a part that is no text.

    """
    lines = []
    for at, message in enumerate(messages):
        role = message.get("role")
        if not isinstance(role, str):
            raise InputError(f"messages.{at}.role: must be a string")
        lines.append(f"<{role}>{_text(message.get('content'), f'messages.{at}.content')}\n")
    return f"{''.join(lines)}<assistant>{THINK}"


def _text(content: object, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        if all(isinstance(part, str) for part in parts):
            return "".join(map(str, parts))
    raise InputError(f"{where}: the scripted engine reads texts only")


class Casting:
    """Gives every prompt its trace.

    Parameters
    ----------
    script
        Whose traces: the one a header names, else the first whose `match` the prompt contains,
        else those without a `match` in turn (all, if each has one).

    """

    def __init__(self, script: Script) -> None:
        self._traces = script.traces
        self._by_name = {trace.name: trace for trace in script.traces}
        self._turn = [trace for trace in script.traces if trace.match is None] or script.traces
        self._next = 0
        self._last: OrderedDict[str, Trace] = OrderedDict()

    def choose(self, prompt: str, named: str | None) -> Trace:
        """Return the trace of a prompt.

        Raises
        ------
        InputError
            If `named`, a trace's name or its number from 0, is neither.

        """
        if named is not None:
            trace = self._named(named)
        else:
            fitting = (one for one in self._traces if one.match and one.match in prompt)
            found = next(fitting, None)
            if found is None:
                found = self._turn[self._next % len(self._turn)]
                self._next += 1
            trace = found
        self._last.pop(prompt, None)
        self._last[prompt] = trace
        while len(self._last) > _REMEMBERED:
            self._last.popitem(last=False)
        return trace

    def _named(self, named: str) -> Trace:
        found = self._by_name.get(named)
        if found is None and named.isdecimal() and int(named) < len(self._traces):
            found = self._traces[int(named)]
        if found is None:
            raise InputError(
                f"{HEADER}: there is no trace {named!r}; give one of {', '.join(self._by_name)}, "
                f"or a number from 0 to {len(self._traces) - 1}"
            )
        return found

    def forced(self, prompt: str) -> tuple[Trace, str] | None:
        """Return the trace and the answer for a prompt in which the thinking has been ended.

        None for any other prompt, and where no trace begins like that thinking.
        """
        before, opened, rest = prompt.rpartition(THINK)
        thinking, ended, _ = rest.partition(END_OF_THINKING)
        if not (opened and ended):
            return None
        last = self._last.get(before + opened)
        candidates = [*([last] if last else []), *self._traces]
        for trace in candidates:
            if trace.thinking.startswith(thinking):
                return trace, trace.forced_answer(thinking)
        return None
