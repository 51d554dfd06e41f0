"""Finds the engine's requests by the id of the server's response.

vLLM 0.32 makes the engine's id from the response's: it numbers what one response has several of,
appends eight random digits (unless `VLLM_DISABLE_REQUEST_ID_RANDOMIZATION` is set), and numbers the
choices where `n` is above 1:

======================  =======================================  ==========================
route                   engine's id                              numbered
======================  =======================================  ==========================
/v1/chat/completions    `chatcmpl-ID-1a2b3c4d`
/v1/completions         `cmpl-ID-0-1a2b3c4d`                     prompts
/v1/responses           `resp_ID_0-1a2b3c4d`                     turns with tools in between
`n` above 1             `0_chatcmpl-ID-1a2b3c4d`                 choices, in front
======================  =======================================  ==========================

A client may choose ID (`X-Request-Id`), so that it ends in anything: a name that takes less away is
taken first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

Rank: TypeAlias = tuple[int, int, int]
"""How directly an engine's id answers to a name, then which prompt or turn, then which choice."""

_CHOICE = re.compile(r"(\d+)_(.+)", re.DOTALL)
_RANDOM = re.compile(r"(.+)-[0-9a-f]{8}", re.DOTALL)
_PART = {
    "-": re.compile(r"(.+)-(\d+)", re.DOTALL),
    "_": re.compile(r"(.+)_(\d+)", re.DOTALL),
}


def names(engine_id: str) -> Iterator[tuple[str, Rank]]:
    """Yield every name that an engine's id answers to, and how directly."""
    yield engine_id, (0, 0, 0)
    forms = [(engine_id, 0)]
    if choice := _CHOICE.fullmatch(engine_id):
        forms.append((choice[2], int(choice[1])))
    for form, number in forms:
        bases = [form]
        if random := _RANDOM.fullmatch(form):
            bases.append(random[1])
        for base in bases:
            if base != engine_id:
                yield base, (1, 0, number)
            separator = "-" if base.startswith("cmpl-") else "_"
            if part := _PART[separator].fullmatch(base):
                yield part[1], (2, int(part[2]), number)


class RequestIds:
    """The engine's ids at hand, by every name they answer to; the newest of equals comes first."""

    def __init__(self) -> None:
        self._ranks: dict[str, dict[str, Rank]] = {}

    def add(self, engine_id: str) -> None:
        """Take an id in; one that is there already counts as newest."""
        self.discard(engine_id)
        for name, rank in names(engine_id):
            ranks = self._ranks.setdefault(name, {})
            ranks[engine_id] = min(rank, ranks.get(engine_id, rank))

    def discard(self, engine_id: str) -> None:
        """Forget an id; it need not be there."""
        for name, _ in names(engine_id):
            ranks = self._ranks.get(name, {})
            ranks.pop(engine_id, None)
            if not ranks:
                self._ranks.pop(name, None)

    def first(self, name: str) -> tuple[Rank, str] | None:
        """Return the id that answers to a name most directly: of several choices the first."""
        found = self._ranks.get(name)
        if not found:
            return None
        newest_first = ((rank, engine_id) for engine_id, rank in reversed(found.items()))
        return min(newest_first, key=lambda ranked: ranked[0])

    def all(self, name: str) -> list[str]:
        """Return all ids that answer to a name as directly as the first one does."""
        first = self.first(name)
        if first is None:
            return []
        found = self._ranks[name]
        return [engine_id for engine_id, rank in found.items() if rank[0] == first[0][0]]
