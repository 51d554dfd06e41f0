"""Host, device and offline replay decide alike, whatever the engine does to a trace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from engine_simulator import FORCE, THINK, Engine, Trace, automaton, ids, judge, offline
from hypothesis import given, settings
from hypothesis import strategies as st

PROMPTS = (
    (THINK,),
    (*ids("so wa"), THINK, *ids(" a")),
    (THINK, *ids("Alter")),
    tuple(ids("a")),
    (5,),
)

CUES = st.sampled_from(
    [
        {},
        {"starts_inside": True},
        {"interval": 3},
        {"paragraph": True, "interval": 7},
        {"words": (), "interval": 1},
    ]
)


@st.composite
def traces(draw: Any, name: str) -> Trace:
    return Trace(
        name,
        list(draw(st.sampled_from(PROMPTS))),
        length=draw(st.integers(2, 40)),
        threshold=draw(st.sampled_from([-np.inf, -3.0, 0.0, 2.0, 4.0, 8.0, np.inf])),
        forces=draw(st.sampled_from([True, True, False])),
        nan_rate=draw(st.sampled_from([0.0, 0.3])),
        watched=draw(st.sampled_from([True, True, True, False])),
        asks=draw(st.sampled_from([0.0, 0.0, 0.05, 0.5])),
    )


def agree(engine: Engine, batch: list[Trace]) -> None:
    found = engine.run(batch)
    assert set(found) == {trace.name for trace in batch if trace.watched}
    for trace in batch:
        truth = offline(trace, engine.cues, engine.judge)
        forced_from = len(trace.output)
        if trace.watched:
            for outcome in found[trace.name]:
                assert outcome.failure is None
                assert outcome.stop_position == truth.stop
                assert (outcome.cues, outcome.non_finite) == (truth.cues, truth.non_finite)
                assert outcome.asked == truth.asked
                np.testing.assert_equal(
                    outcome.top_score, truth.top if np.isfinite(truth.top) else np.nan
                )
                np.testing.assert_equal(outcome.stop_score, truth.score)
            seen = found[trace.name][0].seen
            np.testing.assert_array_equal([cue.score for cue in seen], truth.scores[: truth.cues])
            if truth.stop is not None and (trace.forces or truth.asked):
                forced_from = truth.stop + 1 - len(trace.prompt)
        first = len(trace.prompt)
        for at, token in enumerate(trace.output):
            offset = at - forced_from
            free = not 0 <= offset < len(FORCE)
            assert token == (trace.choice(first + at) if free else FORCE[offset])


@settings(max_examples=50, deadline=None)
@given(
    batch=st.tuples(*(traces(f"r{number}") for number in range(4))),
    cues=CUES,
    shaping=st.sampled_from([("raw", 0.5), ("rise", 0.5), ("rise", 0.3)]),
    seed=st.integers(0, 2**32 - 1),
    drafts=st.sampled_from([0, 4]),
    chunk=st.sampled_from([0, 3]),
    preempt=st.sampled_from([0.0, 0.08]),
    slots=st.sampled_from([1, 8]),
)
def test_trackers_equal_the_offline_replay(
    batch: tuple[Trace, ...], cues: dict[str, Any], shaping: tuple[str, float], **options: Any
) -> None:
    agree(Engine(automaton(**cues), judge(*shaping), **options), list(batch))


@pytest.mark.parametrize("drafts", [0, 5])
def test_long_traces_go_round_the_ring(drafts: int) -> None:
    batch = [Trace(f"long{n}", [THINK], 300, threshold=np.inf) for n in range(3)]
    agree(Engine(automaton(), judge(), drafts=drafts, preempt=0.02, seed=3), batch)


def test_the_device_grows_beyond_its_slots_and_uses_them_again() -> None:
    # Prompts of many lengths: a slot's next trace begins anywhere in its ring.
    batch = [
        Trace(f"r{n}", [5] * (n % 23) + [THINK], 12, threshold=0.0, forces=n % 2 == 0)
        for n in range(60)
    ]
    engine = Engine(automaton(interval=2), judge(), seed=5, slots=1, drafts=2)
    agree(engine, batch)
    slots = engine.device._tracker.trash
    assert 1 < slots < len(batch)
    assert sorted(engine.device._free) == list(range(slots))
