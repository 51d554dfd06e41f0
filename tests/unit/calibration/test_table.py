import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_makers import trace, trace_lists

from calibration.table import CueTable, as_table
from probes.errors import InputError
from probes.events import Trace


@given(trace_lists(scores=st.floats(width=32, allow_nan=False, allow_infinity=False)))
@settings(deadline=None)
def test_traces_survive_the_columns(traces: list[Trace]) -> None:
    assert list(CueTable.from_traces(traces).traces()) == traces


@given(trace_lists(), st.data())
@settings(deadline=None)
def test_taking_rows_is_taking_traces(traces: list[Trace], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(traces) - 1), max_size=8))
    taken = CueTable.from_traces(traces).take(rows)
    assert list(taken.traces()) == [traces[row] for row in rows]


def test_unknown_labels_stay_unknown() -> None:
    unlabelled = trace("a", [1.0], correct=[None], agrees=[None], full_correct=None)
    assert list(CueTable.from_traces([unlabelled]).traces()) == [unlabelled]


def test_rows_name_the_trace_of_each_cue() -> None:
    table = CueTable.from_traces([trace("a", [1, 2]), trace("b", []), trace("c", [3])])
    assert table.rows.tolist() == [0, 0, 2]
    assert (len(table), table.n_cues) == (3, 3)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), 1e39])
def test_a_score_that_is_no_float32_is_named(score: float) -> None:
    with pytest.raises(InputError, match=r"'b'.*cue 1"):
        CueTable.from_traces([trace("a", [0.0]), trace("b", [0.0, score])])


def test_columns_of_different_lengths_are_refused() -> None:
    table = CueTable.from_traces([trace("a", [1, 2])])
    columns = dict(vars(table))
    columns.pop("rows", None)
    columns["offsets"] = np.array([0, 1])
    with pytest.raises(InputError, match="length"):
        CueTable(**columns)


def test_a_table_is_accepted_as_it_is() -> None:
    table = CueTable.from_traces([trace("a", [1.0])])
    assert as_table(table) is table
