"""Stored cue tables: what `from_tensors` takes and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cue_tokenizers import THINK, THINK_END, r1_tokenizer
from numpy.typing import NDArray
from safetensors.numpy import load, save

from stopper.cues import CueAutomaton, CueSpec
from stopper.errors import ArtifactError

SPEC = CueSpec(
    think_start_ids=(THINK,), think_end_ids=(THINK_END,), paragraph=True, interval=8
)  # labels: 3 words, paragraph, interval
Tensors = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def automaton() -> CueAutomaton:
    return CueAutomaton.build(r1_tokenizer(), SPEC)


def test_tables_survive_safetensors(automaton: CueAutomaton) -> None:
    stored = load(save(automaton.to_tensors()))
    again = CueAutomaton.from_tensors(stored, SPEC)
    for name, table in automaton.to_tensors().items():
        assert np.array_equal(table, again.to_tensors()[name])
        assert table.dtype == again.to_tensors()[name].dtype
    ids = r1_tokenizer().encode("<think>So. Wait,\n\nhmm").ids
    assert automaton.events([], ids) == again.events([], ids) != []
    assert again.labels == ("hmm", "wait", "alternatively", "paragraph", "every 8")
    assert (again.interval, again.start) == (8, automaton.start)


def test_the_tables_are_small(automaton: CueAutomaton) -> None:
    n_states, n_classes = automaton.transitions.shape
    assert n_states < 40
    assert n_classes < 120


def _set(name: str, index: Any, value: int) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors[name] = tensors[name].copy()
        tensors[name][index] = value

    return change


def _replace(name: str, make: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors[name] = make(tensors[name])

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda tensors: tensors.pop("fires"), "fires missing or unknown"),
        (lambda tensors: tensors.update(more=np.zeros(1)), "more missing or unknown"),
        (_replace("token_class", lambda table: table.astype(np.int64)), "token_class is int64"),
        (_replace("fires", lambda table: table.astype(np.float32)), "fires is float32"),
        (_replace("inside", lambda table: table.astype(np.int8)), "inside is int8"),
        (_replace("transitions", lambda table: table[0]), "transitions has the shape"),
        (_replace("token_class", lambda table: table[:0]), "token_class has the shape"),
        (_replace("fires", lambda table: table[:-1]), "fires and transitions differ"),
        (_replace("inside", lambda table: table[:-1]), "inside and transitions differ"),
        (_replace("start", lambda table: np.repeat(table, 2)), "start has the shape"),
        (_set("token_class", 7, -1), "token_class is not within"),
        (_set("token_class", 7, 10_000), "token_class is not within"),
        (_set("transitions", (0, 0), 10_000), "transitions is not within"),
        (_set("transitions", (0, 0), -1), "transitions is not within"),
        (_set("start", 0, 10_000), "start is not within"),
        (_set("fires", (1, 1), 5), "fires is not within 0..4"),  # the interval is not in the table
        (_set("fires", (1, 1), -1), "fires is not within"),
        (_set("fires", (1, 0), 1), "the neutral class fires"),
        (_set("start", 0, 1), "start denies starts_inside"),
        (_set("inside", 3, 0), "inside is odd"),
    ],
)
def test_bad_tables_are_refused(
    automaton: CueAutomaton, change: Callable[[Tensors], None], complaint: str
) -> None:
    tensors = automaton.to_tensors()
    change(tensors)
    with pytest.raises(ArtifactError, match=complaint):
        CueAutomaton.from_tensors(tensors, SPEC)
