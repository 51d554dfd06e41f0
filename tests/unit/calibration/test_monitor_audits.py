import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_makers import ARTIFACT, BEGIN, audit, audits

from calibration.evaluate import threshold_stops
from calibration.losses import bad_cues
from calibration.monitor import Audit, audits_of, read_audits, write_audits
from calibration.simulate import SimulatorSettings, simulate
from probes.errors import InputError


def fields() -> dict[str, object]:
    return json.loads(audit().model_dump_json())


def refusal(path: Path, data: bytes | str) -> str:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(InputError) as caught:
        list(read_audits(path))
    return str(caught.value)


@settings(deadline=None)
@given(st.lists(audits(), unique_by=lambda audit: audit.request_id, min_size=1, max_size=20))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, made: list[Audit]
) -> None:
    path = tmp_path_factory.mktemp("a") / "a.jsonl"
    assert write_audits(path, made) == len(made)
    assert list(read_audits(path)) == made


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode()))
def test_any_bytes_are_refused_with_their_line(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    assert refusal(path, data).startswith(f"{path}:")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@settings(deadline=None)
@given(st.sampled_from(sorted(fields())), JSON)
def test_any_value_of_any_field_is_read_or_named(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "field.jsonl"
    path.write_text(json.dumps(fields() | {name: value}) + "\n")
    try:
        (read,) = read_audits(path)
    except InputError as problem:
        assert f"{path}:1:" in str(problem)
        assert name in str(problem) or "mark" in str(problem) or "score" in str(problem)
        assert "docs/monitoring.md" in str(problem)
    else:
        assert json.loads(read.model_dump_json())[name] == pytest.approx(value)


@pytest.mark.parametrize("name", sorted(fields()))
def test_a_missing_field_is_named(tmp_path: Path, name: str) -> None:
    rest = {key: value for key, value in fields().items() if key != name}
    assert f": {name}: field required" in refusal(tmp_path / "a", json.dumps(rest))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"marked": False}, "score: must be a number exactly where marked is true"),
        ({"score": None}, "score: must be a number exactly where marked is true"),
        ({"marked": False, "score": None, "loss": 1}, "loss: 1 without a mark"),
        ({"top_score": None}, "top_score: must be a number exactly where there are cues"),
        ({"cues": 0, "top_score": None}, "cues: 0, but there is a mark"),
        ({"top_score": 1.0}, "top_score: 1.0 is below the score at the mark"),
        ({"time": "2026-03-01T12:00:00"}, "time: input should have timezone info"),
        ({"time": 1772366400}, 'time: must be a text such as "2026-03-01T12:00:00Z"'),
        ({"alpha": 1}, "alpha: input should be less than 1"),
        ({"loss": True}, "loss: input should be a valid integer"),
        ({"cues": 10**400}, "cues:"),
        ({"artifact": "short"}, "artifact: string should match pattern"),
        ({"surplus": 1}, "surplus: extra inputs are not permitted"),
    ],
)
def test_a_contradiction_is_explained(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    assert said in refusal(tmp_path / "a", json.dumps(fields() | changes))


def test_lines_are_counted_and_repetitions_refused(tmp_path: Path) -> None:
    line = audit().model_dump_json()
    path = tmp_path / "a"
    assert f"{path}:4: request_id 'r0' was already used in line 2" in refusal(
        path, f"\n{line}\r\n\n{line}\n"
    )
    assert "was already used" not in refusal(path, f"{line}\n{line[:-20]}")
    assert "The last line may have been cut off" in refusal(path, f"{line}\n{line[:-20]}")
    assert "holds no audit" in refusal(path, "\n \n")
    assert "NaN is not standard JSON" in refusal(path, line.replace("1.5", "NaN"))
    assert "nested too deeply" in refusal(path, "[" * 100_000)
    path.write_bytes(b"\xef\xbb\xbf" + line.encode())
    assert list(read_audits(path)) == [audit()]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        list(read_audits(tmp_path / "none"))
    with pytest.raises(InputError, match="cannot be written"):
        write_audits(tmp_path / "none" / "a", [audit()])


def test_recorded_traces_become_the_audits_they_would_have_been() -> None:
    table = simulate(SimulatorSettings(200, cues=4, no_cues=0.1, seed=3))
    bad, stops = bad_cues(table, "disagree"), threshold_stops(table, 1.0)
    made = list(
        audits_of(
            table, bad, stops, artifact=ARTIFACT, alpha=0.1, loss_name="disagree", begin=BEGIN
        )
    )
    assert [one.request_id for one in made] == list(table.trace_ids)
    assert {one.marked for one in made} == {True, False} and any(one.cues == 0 for one in made)
    for row, (one, trace) in enumerate(zip(made, table.traces(), strict=True)):
        passing = [cue for cue in trace.cues if cue.score > 1.0]
        assert one.marked == bool(passing)
        assert one.loss == (bool(passing) and not passing[0].agrees)
        assert one.score == (float(str(np.float32(passing[0].score))) if passing else None)
        assert (one.cues, one.tokens) == (len(trace.cues), trace.tokens)
        assert one.top_score is None or np.float32(one.top_score) == max(
            np.float32(cue.score) for cue in trace.cues
        )
        assert (one.time - BEGIN).total_seconds() == row
