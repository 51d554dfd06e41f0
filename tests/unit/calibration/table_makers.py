"""Hypothesis strategies and small hand-made traces for the calibration tests."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from probes.events import CueEvent, Trace

# Few distinct scores, both zeros among them, so that ties are the rule.
SCORES = st.sampled_from([-2.0, -0.5, -0.0, 0.0, 0.125, 0.5, 1.0, 3.5])


def trace(
    trace_id: str,
    scores: Sequence[float],
    correct: Sequence[bool | None] | None = None,
    agrees: Sequence[bool | None] | None = None,
    full_correct: bool | None = True,
    group: str | None = None,
    tokens: int | None = None,
) -> Trace:
    n = len(scores)
    labels = zip(
        scores,
        [True] * n if correct is None else correct,
        [True] * n if agrees is None else agrees,
        strict=True,
    )
    cues = tuple(
        CueEvent(position=10 * (index + 1), score=score, correct=right, agrees=same)
        for index, (score, right, same) in enumerate(labels)
    )
    length = 10 * (n + 1) if tokens is None else tokens
    return Trace(trace_id, trace_id if group is None else group, length, full_correct, cues)


@st.composite
def trace_lists(
    draw: st.DrawFn,
    min_size: int = 1,
    max_size: int = 12,
    scores: st.SearchStrategy[float] = SCORES,
    groups: int | None = None,
) -> list[Trace]:
    """Traces with any labels and many ties; `groups` bounds the number of distinct prompts."""
    traces = []
    for index in range(draw(st.integers(min_size, max_size))):
        cues = draw(
            st.lists(st.tuples(st.integers(1, 9), scores, st.booleans(), st.booleans()), max_size=6)
        )
        position = 0
        events = []
        for gap, score, correct, agrees in cues:
            position += gap
            events.append(CueEvent(position, score, correct, agrees))
        group = f"g{draw(st.integers(0, groups - 1))}" if groups else f"g{index}"
        tokens = position + draw(st.integers(0, 9))
        traces.append(Trace(f"t{index}", group, tokens, draw(st.booleans()), tuple(events)))
    return traces
