"""Finds cues in a stream of token ids, in constant time per token.

`CueAutomaton` is a table machine: the same two look-ups run in Python here, and as gathers on numpy
or torch arrays in the engine, so that offline and online see the same events::

    column = token_class[token]            # NEUTRAL_CLASS where token >= len(token_class)
    label = fires[state, column]           # 0 none, else labels[label - 1]
    state = transitions[state, column]

The machine is causal. A token that ends exactly with the last letter of a cue fires at once, for
the next token is not known yet; "waiting" spelled as one token is no cue, but a tokenizer that
splits it into "wait" + "ing" makes one. `ambiguous_continuations` lists such words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stopper.cue_letters import NEUTRAL, LetterAutomaton
from stopper.cue_pieces import backend, token_pieces
from stopper.cue_spec import CueSpec
from stopper.cue_tables import DTYPES, NEUTRAL_CLASS, check_tables, fold_span
from stopper.errors import InputError

__all__ = [
    "NEUTRAL_CLASS",
    "CueAutomaton",
    "CueSpec",
    "CueStream",
    "ambiguous_continuations",
    "interval_fires",
]

_ENDINGS = {  # of the default cues; other words get the general ones
    "alternatively": (),
    "hmm": ("s",),
    "wait": ("ed", "er", "ers", "ing", "list", "ress", "s"),
}
_GENERAL_ENDINGS = ("ed", "er", "ing", "ly", "s")


@dataclass(frozen=True, eq=False)
class CueAutomaton:
    """A compiled cue matcher; immutable, shared by all requests, whose state is one integer.

    Attributes
    ----------
    token_class : int32[vocab]
        Column of each token id; tokens that act alike share one.
    transitions : int32[n_states, n_classes]
    fires : int8[n_states, n_classes]
        Label (1-based) of the event at a token, 0 for none.
    inside : bool[n_states]
        Whether the next token belongs to the thinking.
    start
        State before the first token.
    labels
        Names of the labels; the interval's comes last.
    interval
        Period of the events that do not depend on the text (see `interval_fires`); 0 is off.

    """

    token_class: NDArray[np.int32]
    transitions: NDArray[np.int32]
    fires: NDArray[np.int8]
    inside: NDArray[np.bool_]
    start: int
    spec: CueSpec

    @classmethod
    def build(cls, tokenizer: Any, spec: CueSpec) -> CueAutomaton:
        """Compile the cues of ``spec`` for a tokenizer (about a second for 150,000 tokens).

        Raises
        ------
        InputError
            The tokenizer's pieces cannot be read, or a thinking id is not in its vocabulary.

        """
        pieces = token_pieces(tokenizer)
        for name in ("think_start_ids", "think_end_ids"):
            unknown = [token for token in getattr(spec, name) if token >= len(pieces)]
            if unknown:
                raise InputError(
                    f"{name}: id {unknown[0]} is not in the tokenizer's vocabulary of "
                    f"{len(pieces)} ids; take the ids from the model's own tokenizer"
                )
        letters = LetterAutomaton(spec.words, spec.paragraph)
        spelled = [letters.spell(piece) for piece in pieces]
        kinds = {NEUTRAL: NEUTRAL_CLASS}  # insertion order is the column
        columns = np.array([kinds.setdefault(text, len(kinds)) for text in spelled], np.int32)
        tables = fold_span(spec, columns, *letters.lift(list(kinds)))
        start = int(tables.pop("start")[0])
        return cls(**tables, start=start, spec=spec)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the events; label i is ``labels[i - 1]``."""
        return self.spec.labels

    @property
    def interval(self) -> int:
        """Period in output tokens of the regular events; 0 is off."""
        return self.spec.interval or 0

    def step(self, state: int, token: int) -> tuple[int, int]:
        """Return the state after one token and the label that it fires (0 for none)."""
        classes, following, fires = self._lists
        column = classes[token] if 0 <= token < len(classes) else NEUTRAL_CLASS
        return following[state][column], fires[state][column]

    def state_after(self, token_ids: Iterable[int], state: int | None = None) -> int:
        """Return the state after the tokens, from ``state`` or from the start."""
        state = self.start if state is None else state
        for token in token_ids:
            state, _ = self.step(state, token)
        return state

    def prompt_state(self, prompt_ids: Sequence[int]) -> int:
        """Return the state in which the output begins.

        Only the prompt's last opening or closing of the thinking counts, and the text after it;
        without either the spec's ``starts_inside`` decides.
        """
        first, last = self.spec.think_start_ids, self.spec.think_end_ids
        for end in range(len(prompt_ids), 0, -1):
            if prompt_ids[end - 1] not in (first[-1], last[-1]):
                continue
            for marker, state in ((last, 0), (first, len(first))):
                if tuple(prompt_ids[max(0, end - len(marker)) : end]) == marker:
                    return self.state_after(prompt_ids[end:], state)
        if self.spec.starts_inside:
            return self.start
        return self.state_after(prompt_ids[max(0, len(prompt_ids) - len(first) + 1) :])

    def events(self, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> list[tuple[int, str]]:
        """Return the events of an output, in order: index of the token in the output, label.

        The prompt has none; it only sets the state. One token is at most one event, and a cue
        comes before the interval.
        """
        stream = self.follow(prompt_ids)
        labels = map(stream.push, output_ids)
        return [(index, label) for index, label in enumerate(labels) if label is not None]

    def follow(self, prompt_ids: Sequence[int]) -> CueStream:
        """Begin to follow the output after a prompt, token by token."""
        return CueStream(self, prompt_ids)

    def to_tensors(self) -> dict[str, NDArray[Any]]:
        """Return the tables by name, as `from_tensors` takes them."""
        tables = {name: getattr(self, name) for name in DTYPES if name != "start"}
        return {**tables, "start": np.array([self.start], np.int32)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]], spec: CueSpec) -> CueAutomaton:
        """Rebuild an automaton from its tables, checked so that no look-up can go astray.

        Raises
        ------
        ArtifactError
            A table is missing, of a wrong type or shape, or points outside of another one.

        """
        check_tables(tensors, spec)
        tables = {name: np.ascontiguousarray(tensors[name]) for name in DTYPES}
        start = int(tables.pop("start")[0])
        return cls(**tables, start=start, spec=spec)

    @cached_property
    def _lists(self) -> tuple[list[int], list[list[int]], list[list[int]]]:
        # Plain lists: indexing numpy scalar by scalar would be several times slower.
        return self.token_class.tolist(), self.transitions.tolist(), self.fires.tolist()

    @cached_property
    def _inside_list(self) -> list[bool]:
        return [bool(value) for value in self.inside]


class CueStream:
    """The cues of one output as it grows; for a generation loop of your own.

    Attributes
    ----------
    position
        Output tokens so far.

    """

    def __init__(self, automaton: CueAutomaton, prompt_ids: Sequence[int]) -> None:
        self._automaton = automaton
        self._state = automaton.prompt_state(prompt_ids)
        self.position = 0

    @property
    def inside(self) -> bool:
        """Whether the next token belongs to the thinking."""
        return self._automaton._inside_list[self._state]

    def push(self, token: int) -> str | None:
        """Take the next output token and name the event at it; None where there is none."""
        self._state, label = self._automaton.step(self._state, token)
        self.position += 1
        if label:
            return self._automaton.labels[label - 1]
        if interval_fires(self._automaton.interval, self.position, self.inside):
            return self._automaton.labels[-1]
        return None


def interval_fires(interval: int, count: Any, inside: Any) -> Any:
    """Tell whether the regular event falls on a token.

    Parameters
    ----------
    interval
        Period in tokens; 0 is off.
    count
        Tokens generated so far, this one included. A number or an array.
    inside
        Whether the thinking goes on after this token. A truth value or an array.

    """
    return (count % max(interval, 1) == 0) & inside & (interval > 0)


def ambiguous_continuations(tokenizer: Any, words: Iterable[str]) -> list[str]:
    """Return common longer words that this tokenizer splits right after a cue.

    Such a word ("wait" + "ress") is taken for the cue, because the next token is not known when
    the cue's last one is read. Spellings with a leading blank, a capital or both are tried, and
    those that split are returned, sorted.
    """
    inner = backend(tokenizer)
    pieces = token_pieces(tokenizer)
    found = set()
    for word in words:
        for form in (word, word.capitalize(), f" {word}", f" {word.capitalize()}"):
            for ending in _ENDINGS.get(word, _GENERAL_ENDINGS):
                ids = inner.encode(form + ending, add_special_tokens=False).ids
                rest = b""
                for token in reversed(ids):
                    rest = (pieces[token] or b"") + rest
                    if len(rest) >= len(ending.encode()):
                        break
                if rest == ending.encode():
                    found.add(form + ending)
    return sorted(found)
