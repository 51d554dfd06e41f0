"""Scores as Parquet: round trips, files that others wrote, and one error for each mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_makers import trace, trace_lists

from calibration import score_parquet
from calibration.scores import load_scores, read_tables, write_scores, write_tables
from calibration.simulate import SimulatorSettings, simulate
from calibration.table import CueTable
from probes.errors import InputError
from probes.events import CueEvent, Trace

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def row(**changes: Any) -> dict[str, Any]:
    cues = [
        {"position": 3, "score": -0.5, "correct": False, "agrees": None},
        {"position": 8, "score": 2.0, "correct": True, "agrees": True},
    ]
    fields = {"trace_id": "t", "group": "g", "tokens": 9, "full_correct": None, "cues": cues}
    return fields | changes


def with_cue(**changes: Any) -> dict[str, Any]:
    fields = row()
    fields["cues"][1] |= changes
    return fields


def write(folder: Path, *rows: dict[str, Any], schema: pa.Schema | None = None) -> Path:
    path = folder / "own.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)
    return path


@given(trace_lists(max_size=5, scores=FLOATS))
@settings(deadline=None, max_examples=60)
def test_what_is_written_is_read(tmp_path_factory, traces: list[Trace]) -> None:
    path = tmp_path_factory.mktemp("scores") / "t.parquet"
    assert write_scores(path, traces) == len(traces)
    assert list(load_scores(path).traces()) == traces


def test_looks_levels_and_unknown_labels_survive(tmp_path: Path) -> None:
    full = Trace("a", "g", 20, None, (CueEvent(5, 0.5, None, True, 0, 0.25, 7),
                                      CueEvent(9, 1.5, True, None, 1, None, None)),
                 level=2, category="sums")  # fmt: skip
    empty = Trace("b", "g", 0, False, ())
    write_scores(tmp_path / "a.parquet", [full, empty])
    assert list(load_scores(tmp_path / "a.parquet").traces()) == [full, empty]


def test_both_forms_hold_the_same_traces(tmp_path: Path) -> None:
    table = simulate(SimulatorSettings(300, seed=4, no_cues=0.1))
    write_scores(tmp_path / "s.jsonl", table)
    write_scores(tmp_path / "s.parquet", load_scores(tmp_path / "s.jsonl"))
    assert list(load_scores(tmp_path / "s.parquet").traces()) == list(table.traces())


def test_a_folder_of_parts_is_one_data_set(tmp_path: Path) -> None:
    table = simulate(SimulatorSettings(300, seed=4))
    for number, rows in enumerate(np.array_split(np.arange(300), 3)):
        write_scores(tmp_path / f"part-{number}.parquet", table.take(rows))
    assert list(load_scores(tmp_path).traces()) == list(table.traces())


def test_batches_are_read_one_by_one(tmp_path: Path, monkeypatch) -> None:
    table = simulate(SimulatorSettings(100, seed=4))
    monkeypatch.setattr(score_parquet, "ROWS", 30)
    write_tables(tmp_path / "s.parquet", [table.take(range(70)), table.take(range(70, 100))])
    tables = list(read_tables(tmp_path / "s.parquet"))
    assert max(map(len, tables)) <= 30
    assert list(CueTable.concatenate(tables).traces()) == list(table.traces())


def test_types_that_other_writers_choose_are_read(tmp_path: Path) -> None:
    """Doubles, small integers, large strings, no optional columns, as pandas or polars write."""
    cue = pa.struct([("agrees", pa.bool_()), ("score", pa.float64()), ("position", pa.int32()),
                     ("correct", pa.null())])  # fmt: skip
    schema = pa.schema([("group", pa.large_string()), ("cues", pa.large_list(cue)),
                        ("tokens", pa.uint16()), ("full_correct", pa.bool_()), ("extra", pa.int8()),
                        ("trace_id", pa.dictionary(pa.int32(), pa.string()))])  # fmt: skip
    cues = [{"position": 3, "score": 0.1, "agrees": False}]
    path = write(tmp_path, row(cues=cues, extra=1), row(trace_id="u", cues=[]), schema=schema)
    one, two = load_scores(path).traces()
    assert one.cues == (CueEvent(3, float(np.float32(0.1)), None, False),)
    assert (two.trace_id, two.group, two.tokens, two.cues) == ("u", "g", 9, ())


@pytest.mark.parametrize("missing", ["trace_id", "group", "tokens", "full_correct", "cues"])
def test_a_missing_column_is_named(tmp_path: Path, missing: str) -> None:
    fields = row()
    del fields[missing]
    with pytest.raises(InputError, match=f"own.parquet: column '{missing}' is missing"):
        load_scores(write(tmp_path, fields))


@pytest.mark.parametrize("missing", ["position", "score", "correct", "agrees"])
def test_a_missing_field_of_cues_is_named(tmp_path: Path, missing: str) -> None:
    fields = row()
    for cue in fields["cues"]:
        del cue[missing]
    with pytest.raises(InputError, match=f"field 'cues.{missing}' is missing"):
        load_scores(write(tmp_path, fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (row(trace_id=""), "row 1: trace_id is empty"),
        (row(trace_id="fine"), "row 1: trace_id 'fine' was already used"),
        (row(group=None), "row 1: group is null"),
        (row(tokens=None), "row 1: tokens is null"),
        (row(tokens=-1, cues=[]), "row 1: tokens is negative"),
        (row(cues=None), "row 1: cues is null"),
        (row(cues=[None]), r"row 1: cues\[0\].position is missing: the cue is null"),
        (with_cue(position=None), r"row 1: cues\[1\].position is null"),
        (with_cue(position=-8), r"row 1: cues\[1\].position is negative"),
        (with_cue(position=3), r"row 1: cues\[1\].position does not rise"),
        (with_cue(position=10), r"row 1: cues\[1\].position lies beyond the trace's tokens"),
        (with_cue(score=None), r"row 1: cues\[1\].score is null"),
        (with_cue(score=float("nan")), r"row 1: cues\[1\].score is not finite"),
        (with_cue(score=1e39), r"row 1: cues\[1\].score is not finite"),
        (with_cue(confidence=1.5), r"row 1: cues\[1\].confidence is not in 0 to 1"),
        (with_cue(repeats=-3), "cues.repeats is negative"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"own.parquet: {message}"):
        load_scores(write(tmp_path, row(trace_id="fine"), fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (row(trace_id=7), "trace_id is int64, not string"),
        (row(tokens="many"), "tokens is string, not int64"),
        (row(full_correct=1), "full_correct is int64, not bool"),
        (row(cues=3), "column 'cues' is int64, not a list of structs"),
        (row(cues=[1]), "column 'cues' is list<.*>, not a list of structs"),
        (row(cues=[{**row()["cues"][0], "agrees": 0}]), "cues.agrees is int64, not bool"),
        (row(cues=[{**row()["cues"][0], "score": "high"}]), "cues.score is string, not double"),
    ],
)
def test_a_wrong_type_is_named(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"own.parquet: {message}"):
        load_scores(write(tmp_path, fields))


def test_a_trace_of_an_earlier_part_is_not_taken_twice(tmp_path: Path) -> None:
    for name in ("a.parquet", "b.parquet"):
        write_scores(tmp_path / name, [trace("t", [1.0])])
    with pytest.raises(InputError, match=r"b.parquet: row 0: trace_id 't' was already used"):
        load_scores(tmp_path)


def test_what_is_no_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.parquet"
    write_scores(path, simulate(SimulatorSettings(50, seed=1)))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut.parquet: not a whole Parquet file"):
        load_scores(path)
    broken = bytearray(whole)
    broken[len(whole) // 3] ^= 0xFF
    path.write_bytes(broken)
    with pytest.raises(InputError, match=r"cut.parquet: is damaged"):
        load_scores(path)
    with pytest.raises(InputError, match=r"none.parquet: cannot be read"):
        load_scores(tmp_path / "none.parquet")


def test_a_folder_or_file_without_traces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no \.parquet file"):
        load_scores(tmp_path)
    write_scores(tmp_path / "empty.parquet", [])
    with pytest.raises(InputError, match="holds no trace"):
        load_scores(tmp_path)
