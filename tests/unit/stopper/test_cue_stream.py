"""The cues of a growing output, token by token, are those of the whole output."""

from __future__ import annotations

import makers
import pytest
from hypothesis import given
from hypothesis import strategies as st

SPECS = {
    "words": makers.CUES,
    "words and an interval": makers.CUES.model_copy(update={"interval": 3}),
}
AUTOMATA = {name: makers.automaton(spec) for name, spec in SPECS.items()}
IDS = st.lists(st.integers(0, 11), max_size=40)


@pytest.mark.parametrize("name", AUTOMATA)
@given(prompt=IDS, output=IDS)
def test_the_stream_and_the_state_machine_agree(
    name: str, prompt: list[int], output: list[int]
) -> None:
    automaton = AUTOMATA[name]
    stream, state = automaton.follow(prompt), automaton.prompt_state(prompt)
    for count, token in enumerate(output, start=1):
        state, label = automaton.step(state, token)
        inside = bool(automaton.inside[state])
        regular = automaton.interval and inside and count % automaton.interval == 0
        named = automaton.labels[label - 1] if label else automaton.labels[-1] if regular else None
        assert stream.push(token) == named
        assert (stream.position, stream.inside) == (count, inside)


def test_events_are_what_the_stream_names() -> None:
    automaton = AUTOMATA["words and an interval"]
    assert automaton.events([1], [5, 3, 5, 5, 5, 4, 2, 3]) == [
        (1, "wait"), (2, "every 3"), (5, "hmm"),
    ]  # fmt: skip
