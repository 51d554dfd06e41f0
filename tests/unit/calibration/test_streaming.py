"""Batches give the same calibration as the whole, bit for bit, whatever the batches."""

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_makers import trace, trace_lists

from calibration.calibrate import Calibration, calibrate
from calibration.evaluate import effective_n
from calibration.scores import load_scores, read_tables, write_scores
from calibration.simulate import SimulatorSettings, simulate, simulate_tables
from calibration.streaming import Accumulator, calibrate_batches
from calibration.table import CueTable
from probes.errors import InputError, TooFewTraces
from probes.events import Trace

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "scale.py"


def same(one: Calibration, other: Calibration) -> None:
    for field in fields(Calibration):
        first, second = getattr(one, field.name), getattr(other, field.name)
        if isinstance(first, np.ndarray):
            assert first.dtype == second.dtype
            assert first.tobytes() == second.tobytes()
        else:
            assert first == second, field.name


@given(
    traces=trace_lists(min_size=1, max_size=14, groups=6),
    size=st.integers(1, 15),
    loss=st.sampled_from(["wrong", "disagree", "harm"]),
    rollouts=st.sampled_from(["one", "worst"]),
    method=st.sampled_from(["crc", "ltt", "lynx"]),
)
@settings(deadline=None, max_examples=150)
def test_any_batches_calibrate_as_the_whole(
    traces: list[Trace], size: int, loss: str, rollouts: str, method: str
) -> None:
    asked = {"method": method, "rollouts": rollouts, "allow_one_class": True}
    try:
        whole = calibrate(traces, loss, 0.6, **asked)
    except InputError as problem:
        with pytest.raises(type(problem)) as error:
            calibrate_batches(CueTable.batches(traces, size), loss, 0.6, **asked)
        assert str(error.value) == str(problem)
    else:
        same(whole, calibrate_batches(CueTable.batches(traces, size), loss, 0.6, **asked))


@pytest.mark.parametrize("rollouts", ["one", "worst"])
def test_rollouts_across_batches_count_once(rollouts: str) -> None:
    table = simulate(SimulatorSettings(600, rollouts=3, seed=8))
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    batches = [shuffled.take(rows) for rows in np.array_split(np.arange(600), 7)]
    found = calibrate_batches(batches, "wrong", 0.1, rollouts=rollouts)
    same(calibrate(shuffled, "wrong", 0.1, rollouts=rollouts), found)
    assert found.n_units == 200 and found.rollouts == 3


def test_a_missing_label_is_named_and_nothing_is_no_calibration() -> None:
    gathered = Accumulator("wrong")
    with pytest.raises(InputError, match=r"trace 'b': cues\[0\].correct is null"):
        gathered.add(CueTable.from_traces([trace("b", [1.0], correct=[None])]))
    with pytest.raises(InputError, match="no traces"):
        Accumulator("wrong").evidence()
    with pytest.raises(TooFewTraces):
        calibrate_batches([CueTable.from_traces([trace("b", [1.0])])], "wrong", 0.05)
    with pytest.raises(InputError, match="one, worst"):
        Accumulator("wrong", "all")


@given(trace_lists(min_size=0, max_size=9), st.integers(1, 10))
@settings(deadline=None)
def test_joined_batches_hold_the_same_traces(traces: list[Trace], size: int) -> None:
    joined = CueTable.concatenate(CueTable.batches(traces, size))
    assert list(joined.traces()) == traces
    assert joined.n_groups == len({item.group for item in traces})


def test_joined_batches_keep_what_only_some_of_them_know() -> None:
    plain = trace("a", [1.0, 2.0])
    known = Trace("b", "b", 30, True, plain.cues[:1], level=3, category="sums")
    answered = simulate(SimulatorSettings(2, seed=1))
    joined = CueTable.concatenate(
        [CueTable.from_traces([plain]), CueTable.from_traces([known]), answered]
    )
    assert list(joined.traces()) == [plain, known, *answered.traces()]
    assert joined.strata == {"level": [None, "3", None, None],
                             "category": [None, "sums", None, None]}  # fmt: skip


def test_clusters_are_counted_alike_in_joined_batches() -> None:
    table = simulate(SimulatorSettings(300, rollouts=4, seed=2))
    joined = CueTable.concatenate(table.take(rows) for rows in np.array_split(np.arange(300), 4))
    badly = np.random.default_rng(1).random(300) < 0.1
    assert effective_n(badly, joined) == effective_n(badly, table)


def test_simulated_batches_share_no_trace_and_keep_rollouts_together() -> None:
    settings_ = SimulatorSettings(1203, cues=900.0, rollouts=3, seed=4)
    tables = list(simulate_tables(settings_))
    assert len(tables) > 1
    joined = CueTable.concatenate(tables)
    assert len(joined) == 1203 == len(set(joined.trace_ids))
    assert joined.n_groups == 401
    (few,) = simulate_tables(SimulatorSettings(50, seed=4))
    assert list(few.traces()) == list(simulate(SimulatorSettings(50, seed=4)).traces())


@pytest.mark.parametrize("name", ["s.jsonl", "s.parquet"])
def test_a_file_calibrates_as_its_table(tmp_path: Path, name: str) -> None:
    table = simulate(SimulatorSettings(9000, cues=2.0, rollouts=2, seed=6))
    write_scores(tmp_path / name, table)
    whole = calibrate(table, "disagree", 0.05)
    same(whole, calibrate(load_scores(tmp_path / name), "disagree", 0.05))
    same(whole, calibrate_batches(read_tables(tmp_path / name), "disagree", 0.05))


def test_memory_is_bounded_as_the_benchmark_of_scale_states() -> None:
    """1.5 million cues: as Python objects they alone would take 230 MiB."""
    command = [sys.executable, BENCHMARK, "--traces", "150000", "--limit-mib", "340"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["stream"]["memory_mib"] < 170
    assert report["agree"] and report["stream"]["cues"] > 1_490_000
    assert report["evaluate"]["cues"] == report["stream"]["cues"]
