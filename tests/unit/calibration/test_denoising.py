"""Replay and the worst scores of recorded decodes, against loops that spell them out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from denoising_makers import decodes_of, scores_of, table_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.denoising import DenoisingTable, replay, worst_scores
from calibration.risk import threshold
from probes.errors import InputError

levels = st.sampled_from([-np.inf, -1.5, -0.0, 0.1, 0.25, 1.0, 3.0, np.inf])


def steps_of(table: DenoisingTable, trace: int) -> list[range]:
    """Return the steps of each block of one decode."""
    blocks = range(table.trace_offsets[trace], table.trace_offsets[trace + 1])
    return [range(table.block_offsets[b], table.block_offsets[b + 1]) for b in blocks]


def slow_worst(scores: NDArray[np.float32], table: DenoisingTable) -> list[float]:
    found = []
    for trace in range(len(table)):
        worst = -math.inf
        for block in steps_of(table, trace):
            highest = -math.inf
            for step in block:
                if scores[step] > highest:
                    highest = float(scores[step])
                    worst = worst if table.agree[step] else max(worst, highest)
        found.append(worst)
    return found


def slow_replay(
    scores: NDArray[np.float32], level: float, table: DenoisingTable
) -> list[tuple[int, int, bool, bool, int]]:
    found = []
    for trace in range(len(table)):
        passes, full, halted, known = 0, 0, False, True
        agree, right = True, -1
        for block in steps_of(table, trace):
            end = next((s for s in block if scores[s] > np.float32(level)), block[-1])
            passes, full = passes + end - block[0] + 1, full + len(block)
            halted = halted or end < block[-1]
            known = agree
            agree = agree and bool(table.agree[end])
            right = int(table.correct[end])
        found.append((passes, full, halted, agree, right if known else -1))
    return found


def drawn_scores(data: st.DataObject, table: DenoisingTable) -> NDArray[np.float32]:
    several = st.lists(scores_of, min_size=table.n_steps, max_size=table.n_steps)
    return np.array(data.draw(several), dtype=np.float32)


@settings(deadline=None)
@given(decodes_of, st.data(), levels)
def test_columns_come_to_what_loops_come_to(
    decodes: list[Any], data: st.DataObject, level: float
) -> None:
    table = table_of(decodes)
    scores = drawn_scores(data, table)
    worst = worst_scores(scores, table)
    assert worst.dtype == np.float32
    assert worst.tolist() == slow_worst(scores, table)
    done = replay(scores, level, table)
    rows = zip(done.steps, done.full_steps, done.halted, done.agree, done.correct, strict=True)
    assert [tuple(int(v) for v in row) for row in rows] == [
        tuple(int(v) for v in row) for row in slow_replay(scores, level, table)
    ]
    assert len(done.at) == table.n_blocks


@settings(deadline=None)
@given(decodes_of, st.data(), levels)
def test_the_worst_score_is_the_level_from_which_a_decode_is_not_halted_badly(
    decodes: list[Any], data: st.DataObject, level: float
) -> None:
    table = table_of(decodes)
    scores = drawn_scores(data, table)
    worst = worst_scores(scores, table)
    bad = ~replay(scores, level, table).agree
    # The rule counts x_i > level, which is never less than what it promises to bound.
    assert not (bad & ~(worst > np.float32(level))).any()
    for trace in np.flatnonzero(worst > -np.inf):
        assert replay(scores, float(worst[trace]), table).agree[trace]
        below = float(np.nextafter(worst[trace], np.float32(-np.inf)))
        assert not replay(scores, below, table).agree[trace]


def test_a_calibrated_level_bounds_the_bad_halts_it_was_found_on() -> None:
    draw = np.random.default_rng(5)
    sizes = draw.integers(1, 7, size=(200, 2))
    table = table_of(
        [[[(bool(draw.random() < s / n), 1) for s in range(n)] for n in row] for row in sizes]
    )
    scores = draw.normal(size=table.n_steps).astype(np.float32)
    for alpha in (0.02, 0.05, 0.2):
        level = threshold(worst_scores(scores, table), alpha, "crc")
        assert (~replay(scores, level, table).agree).mean() <= alpha


def test_one_step_cannot_be_halted_early() -> None:
    table = table_of([[[(True, 1)]], [[(False, 0)]]])
    done = replay(np.array([9.0, 9.0], np.float32), 0.0, table)
    assert done.steps.tolist() == done.full_steps.tolist() == [1, 1]
    assert not done.halted.any()
    assert done.agree.all()
    assert worst_scores(np.array([9.0, 9.0], np.float32), table).tolist() == [-np.inf] * 2


def test_the_pass_that_halts_counts_and_a_level_is_exceeded_strictly() -> None:
    table = table_of([[[(False, 0), (False, 0), (True, 1), (True, 1)]]])
    scores = np.array([0.0, 1.0, 2.0, 0.5], np.float32)
    seen = {level: replay(scores, level, table) for level in (-1.0, 0.0, 1.0, 2.0)}
    assert {level: int(done.steps[0]) for level, done in seen.items()} == {
        -1.0: 1, 0.0: 2, 1.0: 3, 2.0: 4,
    }  # fmt: skip
    assert [int(done.correct[0]) for done in seen.values()] == [0, 0, 1, 1]
    assert worst_scores(scores, table).tolist() == [1.0]


def test_an_empty_table_has_nothing_to_say() -> None:
    table, none = table_of([]), np.zeros(0, np.float32)
    assert worst_scores(none, table).shape == (0,)
    assert replay(none, 0.0, table).steps.shape == (0,)


@pytest.mark.parametrize(
    "scores",
    [np.zeros(3, np.float32), np.zeros(2, np.float64), np.array([0, np.nan], np.float32)],
    ids=["too_many", "float64", "nan"],
)
def test_scores_that_are_not_one_number_a_step_are_refused(scores: Any) -> None:
    table = table_of([[[(True, 1), (True, 1)]]])
    with pytest.raises(InputError, match="one score a step"):
        worst_scores(scores, table)
    with pytest.raises(InputError, match="one score a step"):
        replay(scores, 0.0, table)


def test_a_level_that_is_no_number_is_refused() -> None:
    with pytest.raises(InputError, match="level is NaN"):
        replay(np.zeros(1, np.float32), math.nan, table_of([[[(True, 1)]]]))
