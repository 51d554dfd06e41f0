"""What rules do on recorded decodes: outcomes, the oracle, equal budgets, the store, the plot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.denoising import DenoisingTable
from calibration.denoising_simulation import DenoisingSettings, simulate_denoising
from calibration.denoising_store import append_part, load_store, recorded
from calibration.halting_outcomes import HaltingEvaluator, cheapest_at, qps
from calibration.halting_plot import Point, plot_points
from probes.errors import InputError

TABLE = simulate_denoising(DenoisingSettings(50, steps=9, seed=3))
BLOCKS = simulate_denoising(DenoisingSettings(20, steps=6, blocks=2, seed=4))
EVALUATOR = HaltingEvaluator(TABLE)


def by_hand(scores: np.ndarray, level: float, table: DenoisingTable) -> tuple[float, float]:
    """Mean passes and share of other answers, one decode at a time."""
    steps, other = [], []
    for trace in range(len(table)):
        passes, same = 0, True
        for block in range(table.trace_offsets[trace], table.trace_offsets[trace + 1]):
            start, end = table.block_offsets[block : block + 2]
            at = next((i for i in range(start, end) if scores[i] > level), end - 1)
            passes += at - start + 1
            same &= bool(table.agree[at])
        steps.append(passes)
        other.append(not same)
    return float(np.mean(steps)), float(np.mean(other))


@pytest.mark.parametrize("table", [TABLE, BLOCKS], ids=["one block", "two blocks"])
def test_an_outcome_is_what_a_slow_replay_counts(table: DenoisingTable) -> None:
    evaluator, scores = HaltingEvaluator(table), table.column("masked.min")
    for level in np.quantile(scores, [0.1, 0.5, 0.95]).astype(np.float32):
        row = evaluator.outcome("x", scores, float(level))
        assert (row.steps, row.disagreement_share) == by_hand(scores, level, table)
        assert row.agreement == 1 - row.disagreement_share
        assert row.interval is not None
        assert row.interval[0] <= row.disagreement_share <= row.interval[1]


def test_the_full_decode_takes_all_steps_and_the_oracle_the_fewest_that_agree() -> None:
    full, oracle = EVALUATOR.full, EVALUATOR.oracle()
    assert (full.steps, full.disagreements, full.halted_share, full.speedup) == (9.0, 0, 0, 1.0)
    first = [TABLE.agree[9 * i : 9 * i + 9].argmax() + 1 for i in range(50)]
    assert oracle.steps == pytest.approx(np.mean(first))
    assert oracle.disagreements == 0


def test_a_fixed_number_of_steps_is_mixed_to_meet_the_budget() -> None:
    for steps in (1.0, 3.3, 8.99, 9.0):
        row = EVALUATOR.budget(steps)
        assert row.steps == pytest.approx(steps)
        assert row.interval is None
    assert EVALUATOR.budget(2.0).disagreement_share == pytest.approx((~TABLE.agree[1::9]).mean())


def test_json_holds_no_literal_that_json_lacks() -> None:
    assert EVALUATOR.full.to_json()["level"] == "Infinity"
    never = EVALUATOR.outcome("x", TABLE.column("span.mean"), -np.inf)
    assert never.to_json()["level"] == "-Infinity"
    assert EVALUATOR.oracle().to_json()["level"] is None


def test_unknown_answers_leave_accuracy_and_qps_unknown() -> None:
    unknown = replace(TABLE, correct=np.full_like(TABLE.correct, -1))
    row = HaltingEvaluator(unknown).oracle()
    assert row.accuracy is None
    assert row.qps is None
    assert qps(2.0, 0.0, 0.0) is None
    assert qps(2.0, 0.5, 1.0) == pytest.approx(2 / 16)


def test_the_cheapest_of_those_that_agree_enough_is_found() -> None:
    rows = [EVALUATOR.budget(steps) for steps in (2.0, 5.0, 9.0)]
    assert cheapest_at(rows, 1.0) is rows[2]
    assert cheapest_at(rows, 0.0) is rows[0]
    assert cheapest_at(rows, 1.1) is None


def test_nothing_to_evaluate_is_refused() -> None:
    with pytest.raises(InputError, match=r"test\.jsonl: there is no decode"):
        HaltingEvaluator(TABLE.select([]), "test.jsonl")


def test_a_store_is_read_part_by_part_in_order(tmp_path: Path) -> None:
    assert recorded(tmp_path / "s") is None
    append_part(tmp_path / "s", TABLE.select(range(20)))
    append_part(tmp_path / "s", TABLE.select(range(20, 50)))
    assert load_store(tmp_path / "s").trace_ids == TABLE.trace_ids
    found = recorded(tmp_path / "s")
    assert found is not None
    np.testing.assert_array_equal(found.values, TABLE.values)


def test_a_part_that_broke_off_while_it_was_written_does_not_count(tmp_path: Path) -> None:
    append_part(tmp_path, TABLE.select([0]))
    broken = append_part(tmp_path, TABLE.select([1]))
    (broken / "denoising.json").unlink()
    assert load_store(tmp_path).trace_ids == TABLE.trace_ids[:1]
    append_part(tmp_path, TABLE.select([1]))
    assert load_store(tmp_path).trace_ids == TABLE.trace_ids[:2]


def test_a_single_table_is_a_store_that_takes_no_parts(tmp_path: Path) -> None:
    TABLE.save(tmp_path)
    assert load_store(tmp_path).trace_ids == TABLE.trace_ids
    with pytest.raises(InputError, match="is one table"):
        append_part(tmp_path, TABLE)


def test_an_empty_folder_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="stopper diffusion collect"):
        load_store(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"traces": 0}, "traces is 0"), ({"noise": 0.0}, "noise is 0"), ({"luck": 2.0}, "luck is 2"),
     ({"autocorrelation": 1.0}, r"in \[0, 1\)")],
    ids=["traces", "noise", "luck", "autocorrelation"],
)  # fmt: skip
def test_a_dial_out_of_range_is_refused(changes: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        DenoisingSettings(**({"traces": 5} | changes))  # type: ignore[arg-type]


def test_a_plot_is_a_png_and_needs_points(tmp_path: Path) -> None:
    points = [
        Point("full", 9, 1.0, "full"),
        Point("a", 4, 0.9, "rival"),
        Point("b", 3, 0.99, "ours"),
    ]
    plot_points(points, tmp_path / "p.png", "a title")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="nothing to plot"):
        plot_points([], tmp_path / "q.png")
