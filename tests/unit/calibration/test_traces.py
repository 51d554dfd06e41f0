"""The trace store: what was flushed stays, what is damaged is named, memory holds one part."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import makers
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.traces import TraceDataset, TraceRecord, TraceWriter, scored_traces
from probes.errors import InputError
from probes.shaping import shape


def equal(left: TraceRecord, right: TraceRecord) -> bool:
    plain = [
        [getattr(item, field.name) for field in dataclasses.fields(item) if field.name != "hidden"]
        for item in (left, right)
    ]
    return plain[0] == plain[1] and bool((left.hidden == right.hidden).all())


def test_round_trip(tmp_path: Path) -> None:
    traces = makers.records(40, rollouts=2)
    folder = makers.store(tmp_path / "s", traces)
    dataset = TraceDataset(folder)
    assert dataset.meta == makers.meta()
    assert len(dataset) == 80
    assert all(equal(*pair) for pair in zip(dataset, traces, strict=True))
    assert [path.name for path in dataset.parts] == [f"part-{k:05d}.parquet" for k in range(5)]
    assert dataset.groups() == {f"p{k}": 2 for k in range(40)}
    assert dataset.ids() == {trace.trace_id for trace in traces}


def test_absent_values_stay_absent(tmp_path: Path) -> None:
    trace = makers.record(answer=None, gold=None, full_correct=None, level=None, text="")
    blank = dataclasses.replace(trace.cues[0], forced_answer=None, correct=None, agrees=None)
    trace = dataclasses.replace(trace, cues=[blank, trace.cues[1]])
    folder = makers.store(tmp_path, [trace])
    assert equal(next(iter(TraceDataset(folder))), trace)


def test_traces_without_cues(tmp_path: Path) -> None:
    folder = makers.store(tmp_path, [makers.record("a", 0), makers.record("b", 0)])
    assert [trace.hidden.shape for trace in TraceDataset(folder)] == [(0, 18), (0, 18)]


@settings(max_examples=25, deadline=None)
@given(
    text=st.text(max_size=20),
    ids=st.lists(st.integers(0, 2**31 - 1), max_size=5),
    counts=st.lists(st.integers(0, 4), min_size=1, max_size=6),
)
def test_anything_legal_survives(
    tmp_path_factory: pytest.TempPathFactory, text: str, ids: list[int], counts: list[int]
) -> None:
    traces = [
        makers.record(
            f"t{index}", cues, text=text.encode("utf-8", "replace").decode(), prompt_ids=ids
        )
        for index, cues in enumerate(counts)
    ]
    folder = makers.store(tmp_path_factory.mktemp("any"), traces)
    assert all(equal(*pair) for pair in zip(TraceDataset(folder), traces, strict=True))


# Writing and resuming


def test_resume_continues_where_it_stopped(tmp_path: Path) -> None:
    traces = makers.records(50)
    makers.store(tmp_path, traces[:30])
    with TraceWriter(tmp_path, makers.meta(), part_traces=16) as writer:
        assert writer.done_ids() == {trace.trace_id for trace in traces[:30]}
        for trace in traces:
            if trace.trace_id not in writer.done_ids():
                writer.append(trace)
    assert all(equal(*pair) for pair in zip(TraceDataset(tmp_path), traces, strict=True))


def test_parts_are_bounded_in_bytes(tmp_path: Path) -> None:
    with TraceWriter(tmp_path, makers.meta(), part_bytes=1000) as writer:
        for index in range(6):
            writer.append(makers.record(f"t{index}", 7))  # 504 bytes of hidden states
    assert len(TraceDataset(tmp_path).parts) == 3


def test_what_waits_is_done_but_not_written(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path, makers.meta())
    writer.append(makers.record("a"))
    assert writer.done_ids() == {"a"}
    with pytest.raises(InputError, match="holds no traces yet"):
        TraceDataset(tmp_path)
    writer.flush()
    assert len(TraceDataset(tmp_path)) == 1
    writer.close()
    with pytest.raises(InputError, match="closed"):
        writer.append(makers.record("b"))


def test_an_error_in_the_loop_still_flushes(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), TraceWriter(tmp_path, makers.meta()) as writer:
        writer.append(makers.record("a"))
        raise RuntimeError
    assert TraceDataset(tmp_path).ids() == {"a"}


def test_a_duplicate_is_refused_and_the_rest_stays(tmp_path: Path) -> None:
    with TraceWriter(tmp_path, makers.meta()) as writer:
        writer.append(makers.record("a"))
        with pytest.raises(InputError, match="'a' is already in"):
            writer.append(makers.record("a"))
        writer.append(makers.record("b"))
    assert TraceDataset(tmp_path).ids() == {"a", "b"}


def test_two_writers_are_kept_apart(tmp_path: Path) -> None:
    first = TraceWriter(tmp_path, makers.meta())
    with pytest.raises(InputError, match="another process is writing"):
        TraceWriter(tmp_path, makers.meta())
    first.close()
    TraceWriter(tmp_path, makers.meta()).close()


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"sampling": {"temperature": 0.6, "top_p": 1.0}}, ["sampling"]),
        ({"layers": (1, 4)}, ["layers"]),
        (
            {"model": makers.fingerprint(dtype="float16"), "engine": {"vllm": "0.33.0"}},
            ["model", "engine"],
        ),
    ],
)
def test_resuming_with_other_settings_names_them(
    tmp_path: Path, changes: dict[str, Any], names: list[str]
) -> None:
    makers.store(tmp_path, [makers.record()])
    with pytest.raises(InputError, match=r"meta\.json: traces of another setting") as caught:
        TraceWriter(tmp_path, makers.meta(**changes))
    for name in ("model", "layers", "sampling", "engine", "closing", "cues"):
        assert (f"{name} is " in str(caught.value)) is (name in names)
    TraceWriter(tmp_path, makers.meta()).close()  # and the lock is free again


def test_parts_without_meta_are_not_adopted(tmp_path: Path) -> None:
    makers.store(tmp_path, [makers.record()])
    (tmp_path / "meta.json").unlink()
    with pytest.raises(InputError, match=r"meta\.json: missing beside 1 parts"):
        TraceWriter(tmp_path, makers.meta())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"trace_id": ""}, "trace_id"),
        ({"group": None}, "group"),
        ({"thinking_tokens": 5}, r"cues must lie in 1\.\.5"),
        ({"cues": makers.record().cues[::-1]}, "cues must ascend"),
        ({"cues": makers.record().cues[:1]}, r"hidden is float32 \[2, 18\], not float32 \[1, 18\]"),
        ({"hidden": np.zeros((2, 17), "f4")}, r"\[2, 17\]"),
        ({"hidden": np.zeros((2, 18), "f8")}, "float64"),
        ({"hidden": np.full((2, 18), np.nan, "f4")}, "NaN or infinity at cue 0"),
        ({"hidden": np.full((2, 18), -np.inf, "f4")}, "NaN or infinity at cue 0"),
        ({"prompt_ids": ["x"]}, "wrong type"),
        ({"prompt_ids": [2**40]}, "wrong type or range"),
        ({"full_correct": "yes"}, "wrong type"),
        ({"text": None}, "text"),
    ],
)
def test_a_malformed_trace_is_refused_and_the_rest_stays(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with TraceWriter(tmp_path, makers.meta()) as writer:
        writer.append(makers.record("good"))
        with pytest.raises(InputError, match=says):
            writer.append(dataclasses.replace(makers.record(), **changes))
        writer.append(makers.record("better"))
    assert TraceDataset(tmp_path).ids() == {"good", "better"}


KILLED = """
import sys, itertools, makers
from pathlib import Path
from calibration.traces import TraceWriter
writer = TraceWriter(Path(sys.argv[1]), makers.meta(), part_traces=5)
for index in itertools.count():
    writer.append(makers.record(f"t{index}", 3))
    print(index, flush=True)
"""


@pytest.mark.parametrize("after", [5, 23, 61])
def test_kill_9_loses_nothing_already_flushed(tmp_path: Path, after: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(makers.__file__).parent)},
    )
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            if int(line) >= after:
                break
        process.send_signal(signal.SIGKILL)
    process.wait()
    flushed = (after + 1) // 5 * 5
    found = list(TraceDataset(tmp_path))
    assert len(found) >= flushed
    assert all(equal(trace, makers.record(f"t{k}", 3)) for k, trace in enumerate(found))
    # And it goes on from there.
    with TraceWriter(tmp_path, makers.meta(), part_traces=5) as writer:
        assert len(writer.done_ids()) == len(found)
        writer.append(makers.record("later"))
    assert len(TraceDataset(tmp_path)) == len(found) + 1


def test_a_kill_between_the_two_files_of_a_part_leaves_no_half(tmp_path: Path) -> None:
    makers.store(tmp_path, [makers.record("a")], cues=False)
    # What a kill leaves behind: hidden states without their table, and scratch files.
    (tmp_path / "part-00001.safetensors").write_bytes(b"half")
    (tmp_path / ".part-00001.parquet.tmp").write_bytes(b"half")
    assert TraceDataset(tmp_path).ids() == {"a"}
    with TraceWriter(tmp_path, makers.meta()) as writer:
        writer.append(makers.record("b"))
    assert TraceDataset(tmp_path).ids() == {"a", "b"}
    assert len(list(TraceDataset(tmp_path))) == 2
    assert not list(tmp_path.glob("*.tmp")) + list(tmp_path.glob(".*.tmp"))


# Damage


def damaged(folder: Path, name: str, *says: str) -> None:
    with pytest.raises(InputError) as caught:
        list(TraceDataset(folder))
    for part in (str(folder / name), "Delete this part", "resume `stopper collect`", *says):
        assert part in str(caught.value)


@settings(max_examples=120, deadline=None)
@given(
    suffix=st.sampled_from(["parquet", "safetensors"]),
    place=st.integers(0),
    bit=st.integers(1, 255),
)
def test_any_changed_byte_of_a_part_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, place: int, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("flip")
    traces = [makers.record(f"t{index}") for index in range(3)]
    makers.store(folder, traces)
    path = folder / f"part-00000.{suffix}"
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= bit
    path.write_bytes(data)
    try:
        found = list(TraceDataset(folder))
    except InputError as problem:
        assert "part-00000" in str(problem)
    else:
        assert suffix == "parquet"
        assert all(equal(*pair) for pair in zip(found, traces, strict=True))


@pytest.mark.parametrize("suffix", ["parquet", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_part_is_named(tmp_path: Path, suffix: str, share: float) -> None:
    makers.store(tmp_path, makers.records(40))
    path = tmp_path / f"part-00001.{suffix}"
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    damaged(tmp_path, "part-00001.parquet")
    with pytest.raises(InputError, match=r"part-00001\.parquet.*Delete this part"):
        TraceWriter(tmp_path, makers.meta())
    # The remedy works: only that part's traces are to be made again.
    for file in tmp_path.glob("part-00001.*"):
        file.unlink()
    with TraceWriter(tmp_path, makers.meta(), part_traces=16) as writer:
        assert len(writer.done_ids()) == 24
        for trace in makers.records(40):
            if trace.trace_id not in writer.done_ids():
                writer.append(trace)
    assert TraceDataset(tmp_path).ids() == {trace.trace_id for trace in makers.records(40)}
    assert len(list(TraceDataset(tmp_path))) == 40


def test_a_missing_safetensors_is_named(tmp_path: Path) -> None:
    makers.store(tmp_path, [makers.record()])
    (tmp_path / "part-00000.safetensors").unlink()
    damaged(tmp_path, "part-00000.parquet", "safetensors cannot be read")
    with pytest.raises(InputError, match=r"part-00000\.parquet: its safetensors is not whole"):
        TraceWriter(tmp_path, makers.meta())


def test_the_safetensors_of_another_part(tmp_path: Path) -> None:
    makers.store(tmp_path, makers.records(40))
    other = (tmp_path / "part-00001.safetensors").read_bytes()
    (tmp_path / "part-00000.safetensors").write_bytes(other)
    damaged(tmp_path, "part-00000.parquet", "of another part")


def retable(folder: Path, change: Any) -> None:
    path = folder / "part-00000.parquet"
    table = pq.read_table(path)
    pq.write_table(change(table), path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.drop_columns(["group"]), "column 'group' is missing"),
        (lambda t: t.append_column("x", pa.array([1] * len(t))), "unknown columns ['x']"),
        (
            lambda t: t.set_column(0, "trace_id", pa.array(list(range(len(t))))),
            "column 'trace_id' is int64, not string",
        ),
        (
            lambda t: t.set_column(1, "group", pa.array([None] * len(t), pa.string())),
            "group is missing",
        ),
        (
            lambda t: t.set_column(0, "trace_id", pa.array(["twin"] * len(t))),
            "trace_id 'twin' occurs twice",
        ),
        (lambda t: t.slice(0, 1), "rows"),
        (
            lambda t: t.set_column(4, "thinking_tokens", pa.array([1] * len(t), pa.int32())),
            "cues must lie in 1..1",
        ),
    ],
)
def test_a_table_that_somebody_rewrote(tmp_path: Path, change: Any, says: str) -> None:
    makers.store(tmp_path, [makers.record("a"), makers.record("b")])
    retable(tmp_path, change)
    damaged(tmp_path, "part-00000.parquet", says)


def test_the_same_trace_in_two_parts(tmp_path: Path) -> None:
    makers.store(tmp_path, [makers.record("a")])
    for suffix in ("parquet", "safetensors"):
        data = (tmp_path / f"part-00000.{suffix}").read_bytes()
        (tmp_path / f"part-00007.{suffix}").write_bytes(data)
    damaged(tmp_path, "part-00007.parquet", "'a' occurs twice")
    with pytest.raises(InputError, match=r"part-00007\.parquet: trace_id 'a' occurs twice"):
        TraceDataset(tmp_path).ids()


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"meta\.json: No such file.*stopper collect"):
        TraceDataset(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"layers": [3, 1]}, "layers"),
        ({"layers": [1, 9]}, "beyond the model's 4 layers"),
        ({"hidden_size": "6"}, "hidden_size"),
        ({"model": {}}, "model.model: field required"),
        ({"novelty": 1}, "novelty"),
        ({"schema_version": 2}, "newer stopper"),
    ],
)
def test_a_wrong_meta_is_named(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    makers.store(tmp_path, [makers.record()])
    path = tmp_path / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=r"meta\.json") as caught:
        TraceDataset(tmp_path)
    assert says in str(caught.value)


# Scores


def test_scored_traces_select_layers_and_shape(tmp_path: Path) -> None:
    traces = makers.records(30)
    dataset = TraceDataset(makers.store(tmp_path, traces))
    probe = makers.probe(makers.spec(layers=(1, 4)))
    scored = {trace.trace_id: trace for trace in scored_traces(dataset, probe)}
    assert len(scored) == 30
    for trace in traces:
        columns = np.r_[trace.hidden.T[:6], trace.hidden.T[12:18]].T
        expected = shape(probe.score(columns), probe.spec)
        found = scored[trace.trace_id]
        assert np.float32([cue.score for cue in found.cues]).tolist() == expected.tolist()
        assert [cue.position for cue in found.cues] == [cue.position for cue in trace.cues]
        assert [cue.agrees for cue in found.cues] == [cue.agrees for cue in trace.cues]
        assert found.tokens == trace.thinking_tokens
        assert found.full_correct == trace.full_correct


def test_scored_traces_of_some_groups(tmp_path: Path) -> None:
    dataset = TraceDataset(makers.store(tmp_path, makers.records(10, rollouts=2)))
    found = list(scored_traces(dataset, makers.probe(), groups={"p3", "p7"}))
    assert [trace.trace_id for trace in found] == ["p3/0", "p3/1", "p7/0", "p7/1"]


def test_a_layer_that_was_not_collected(tmp_path: Path) -> None:
    dataset = TraceDataset(makers.store(tmp_path, makers.records(3)))
    with pytest.raises(InputError, match=r"layers \[3\] were not collected.*\[1, 2, 4\]"):
        list(scored_traces(dataset, makers.probe(makers.spec(layers=(1, 3)))))


def test_memory_holds_one_part(tmp_path: Path) -> None:
    wide = makers.meta(model=makers.fingerprint(hidden_size=2000), hidden_size=2000)
    states = np.ones((10, 6000), np.float32)  # 240 kB a trace
    with TraceWriter(tmp_path, wide, part_traces=4) as writer:
        for index in range(60):
            writer.append(makers.record(f"t{index}", 10, hidden=states))
    list(zip(TraceDataset(tmp_path), range(3), strict=False))  # imports
    tracemalloc.start()
    total = sum(trace.hidden.nbytes for trace in TraceDataset(tmp_path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 60 * states.nbytes
    assert peak < total / 3
