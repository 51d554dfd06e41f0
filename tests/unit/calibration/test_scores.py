"""The scores file: round trips, and one error for each way to get it wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_makers import trace, trace_lists

from calibration.scores import load_scores, read_scores, write_scores
from calibration.simulate import SimulatorSettings, simulate
from probes.errors import InputError
from probes.events import Trace

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def line(**changes: Any) -> dict[str, Any]:
    cues = [
        {"position": 3, "score": -0.5, "correct": False, "agrees": None},
        {"position": 8, "score": 2, "correct": True, "agrees": True},
    ]
    fields = {"trace_id": "t", "group": "g", "tokens": 9, "full_correct": None, "cues": cues}
    return fields | changes


def with_cue(**changes: Any) -> dict[str, Any]:
    fields = line()
    fields["cues"][1] |= changes
    return fields


def write(tmp_path: Path, *lines: Any) -> Path:
    path = tmp_path / "own.jsonl"
    texts = (entry if isinstance(entry, str) else json.dumps(entry) for entry in lines)
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


@given(trace_lists(max_size=4, scores=FLOATS))
@settings(deadline=None, max_examples=60)
def test_what_is_written_is_read(tmp_path_factory, traces: list[Trace]) -> None:
    path = tmp_path_factory.mktemp("scores") / "t.jsonl"
    assert write_scores(path, traces) == len(traces)
    assert list(read_scores(path)) == traces


def test_a_simulated_file_keeps_every_bit(tmp_path: Path) -> None:
    table = simulate(SimulatorSettings(100, seed=4, no_cues=0.1))
    write_scores(tmp_path / "s.jsonl", table)
    assert list(load_scores(tmp_path / "s.jsonl").traces()) == list(table.traces())


def test_the_documented_form_is_read(tmp_path: Path) -> None:
    (one,) = read_scores(write(tmp_path, line(note="left unread")))
    assert one.group == "g" and one.tokens == 9 and one.full_correct is None
    assert [(cue.position, cue.score, cue.correct, cue.agrees) for cue in one.cues] == [
        (3, -0.5, False, None),
        (8, 2.0, True, True),
    ]


def test_blank_lines_and_a_byte_order_mark_are_no_traces(tmp_path: Path) -> None:
    path = tmp_path / "bom.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(line()).encode() + b"\n\n  \r\n")
    assert len(list(read_scores(path))) == 1


@pytest.mark.parametrize("missing", ["trace_id", "group", "tokens", "full_correct", "cues"])
def test_a_missing_field_is_named(tmp_path: Path, missing: str) -> None:
    fields = line()
    del fields[missing]
    with pytest.raises(InputError, match=f"own.jsonl:1: {missing} is missing"):
        list(read_scores(write(tmp_path, fields)))


@pytest.mark.parametrize("missing", ["position", "score", "correct", "agrees"])
def test_a_missing_cue_field_is_named(tmp_path: Path, missing: str) -> None:
    fields = line()
    del fields["cues"][1][missing]
    with pytest.raises(InputError, match=rf"own.jsonl:1: cues\[1\].{missing} is missing"):
        list(read_scores(write(tmp_path, fields)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (line(trace_id=7), "trace_id must be a string.*not number 7"),
        (line(trace_id=""), "trace_id must be a string that is not empty"),
        (line(group=None), "group must be a string.*not null"),
        (line(tokens="9"), 'tokens must be a whole number.*not string "9"'),
        (line(tokens=9.0), "tokens must be a whole number.*not number 9.0"),
        (line(tokens=True), "tokens must be a whole number.*not boolean true"),
        (line(tokens=-1), "tokens is -1; token counts are not negative"),
        (line(tokens=2**70), "tokens is 118.*64 bits"),
        (line(full_correct=1), "full_correct must be true, false or null, not number 1"),
        (line(cues={}), "cues must be a list of objects, not object"),
        (line(cues=[3]), r"cues\[0\] must be an object, not number 3"),
        (with_cue(position=True), r"cues\[1\].position must be a whole number.*boolean"),
        (with_cue(position=-8), r"cues\[1\].position is -8"),
        (with_cue(position=3), r"cues\[1\].position repeats 3; keep one cue"),
        (with_cue(position=2), r"cues\[1\].position is 2 after 3; sort the cues"),
        (with_cue(position=10), r"cues\[1\].position is 10, beyond the trace's tokens \(9\)"),
        (with_cue(score=None), r"cues\[1\].score must be a number, not null"),
        (with_cue(score=True), r"cues\[1\].score must be a number, not boolean true"),
        (with_cue(score="1"), r"cues\[1\].score must be a number, not string"),
        (with_cue(score=float("nan")), r"cues\[1\].score is NaN; scores must be finite"),
        (with_cue(score=float("inf")), r"cues\[1\].score is Infinity; scores must be finite"),
        (with_cue(score=1e39), r"cues\[1\].score is 1e\+39; scores must be finite and fit float32"),
        (with_cue(score=10**400), r"cues\[1\].score is 1000.*\.\.\.; scores must be finite"),
        (with_cue(correct="yes"), r"cues\[1\].correct must be true, false or null"),
        (with_cue(agrees=0), r"cues\[1\].agrees must be true, false or null, not number 0"),
        ("[1, 2]", "is a JSON list, not an object"),
        ("{", "not JSON"),
        ("nonsense", "not JSON"),
        ("[" * 100_000, "nested too deeply|not JSON"),
    ],
)
def test_a_wrong_line_is_named_with_its_remedy(tmp_path: Path, fields: Any, message: str) -> None:
    path = write(tmp_path, line(trace_id="fine"), fields)
    with pytest.raises(InputError, match=message) as error:
        list(read_scores(path))
    assert str(error.value).startswith(f"{path}:2: ")


def test_a_duplicate_trace_is_named_with_its_first_line(tmp_path: Path) -> None:
    path = write(tmp_path, line(), "", line(trace_id="u"), line())
    with pytest.raises(InputError, match=r"own.jsonl:4: trace_id 't' was already used in line 1"):
        list(read_scores(path))


def test_a_truncated_last_line_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl"
    path.write_text(json.dumps(line()) + "\n" + json.dumps(line(trace_id="u"))[:-9])
    with pytest.raises(InputError, match=r"cut.jsonl:2: not JSON.*cut off"):
        list(read_scores(path))


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "binary.jsonl"
    path.write_bytes(b"\x80\x81\x82\n")
    with pytest.raises(InputError, match=r"binary.jsonl:1: not UTF-8"):
        list(read_scores(path))


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=r"empty.jsonl: holds no trace"):
        list(read_scores(path))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.jsonl: cannot be read: No such file"):
        list(read_scores(tmp_path / "none.jsonl"))
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        list(read_scores(tmp_path))


def test_reading_is_lazy(tmp_path: Path) -> None:
    reader = read_scores(write(tmp_path, line(), "{"))
    assert next(reader).trace_id == "t"


def test_writing_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    write_scores(path, [trace("a", [1.0])])
    before = path.read_bytes()

    def broken():
        yield trace("b", [1.0])
        raise RuntimeError("the scorer died")

    with pytest.raises(RuntimeError):
        write_scores(path, broken())
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.jsonl"]


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written: No such file"):
        write_scores(tmp_path / "no" / "t.jsonl", [trace("a", [1.0])])


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["trace_id", "group", "tokens", "full_correct", "cues", "position",
                         "score", "correct", "agrees"]), inner, max_size=9),
    max_leaves=25,
))  # fmt: skip
@settings(deadline=None, max_examples=300)
def test_any_json_is_read_or_refused_by_name(tmp_path_factory, data: Any) -> None:
    path = tmp_path_factory.mktemp("any") / "own.jsonl"
    path.write_text(json.dumps(data) + "\n")
    try:
        (one,) = read_scores(path)
    except InputError as error:
        assert str(error).startswith(f"{path}:1: ")
    else:
        assert isinstance(data, dict) and one.trace_id == data["trace_id"]
