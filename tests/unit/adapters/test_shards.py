"""Shares of prompts: every prompt in exactly one, the same one wherever it stands."""

from __future__ import annotations

from pathlib import Path

import makers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.vllm.shards import Shard, collected, count_missing, trace_name
from calibration.store_files import lock
from calibration.traces import TraceDataset
from probes.errors import InputError


@given(st.text(), st.integers(1, 50))
def test_every_prompt_is_in_exactly_one_share(prompt_id: str, count: int) -> None:
    assert sum(Shard(index, count).takes(prompt_id) for index in range(count)) == 1


def test_shares_are_about_equal_and_stable() -> None:
    sizes = [sum(Shard(k, 4).takes(f"p{n}") for n in range(4000)) for k in range(4)]
    assert all(900 < size < 1100 for size in sizes)  # four standard errors
    # Fixed for good: stores collected by an older version must resume.
    assert [Shard(0, 2).takes(name) for name in ("a", "b", "c", "d")] == [True, True, True, False]


@pytest.mark.parametrize("text", ["0/4", "3/4", "0/1"])
def test_a_share_is_written_as_it_is_read(text: str) -> None:
    assert str(Shard.parse(text)) == text


@pytest.mark.parametrize("text", ["", "4/4", "1", "-1/4", "0/0", "a/b", "1/2/3", "1/99999999999"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="must be I/N"):
        Shard.parse(text)


def share_out(folder: Path, names: list[str], count: int) -> None:
    for index in range(count):
        share = Shard(index, count)
        mine = [makers.record(trace_name(name, 0)) for name in names if share.takes(name)]
        makers.store(share.folder(folder), mine)


def test_stores_of_workers_are_read_as_one(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(30)]
    share_out(tmp_path, names, 3)
    dataset = TraceDataset(tmp_path)
    assert len(dataset) == 30
    assert {trace.trace_id for trace in dataset} == dataset.ids() == {f"{n}#0" for n in names}


def test_what_is_done_is_not_done_again_under_another_number_of_workers(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(20)]
    share_out(tmp_path, names, 2)
    done = collected(tmp_path, Shard(0, 3), makers.meta())
    assert done == {f"{name}#0" for name in names}
    three = [Shard(index, 3) for index in range(3)]
    assert count_missing(tmp_path, three, [*names, "new"], 1) == 1
    assert count_missing(tmp_path, three, names, 2) == 20


def test_stores_of_other_settings_are_refused_by_reader_and_worker(tmp_path: Path) -> None:
    makers.store(tmp_path / "shard-0-of-2", [makers.record("a")])
    makers.store(tmp_path / "shard-1-of-2", [makers.record("b")], sampling={"temperature": 0.5})
    with pytest.raises(InputError, match=r"different settings \(sampling is .*shard-1-of-2"):
        TraceDataset(tmp_path)
    with pytest.raises(InputError, match="traces of another setting lie here"):
        collected(tmp_path, Shard(0, 2), makers.meta())


def test_a_trace_in_two_stores_is_refused(tmp_path: Path) -> None:
    for index in range(2):
        makers.store(tmp_path / f"shard-{index}-of-2", [makers.record("a")])
    with pytest.raises(InputError, match="'a' occurs twice"):
        TraceDataset(tmp_path).ids()
    with pytest.raises(InputError, match="'a' occurs twice"):
        list(TraceDataset(tmp_path))


def test_another_number_of_workers_waits_for_those_at_work(tmp_path: Path) -> None:
    makers.store(tmp_path / "shard-0-of-2", [makers.record("a")])
    with lock(tmp_path / "shard-0-of-2"):
        collected(tmp_path, Shard(1, 2), makers.meta())  # its own kind
        with pytest.raises(InputError, match="another process"):
            collected(tmp_path, Shard(1, 3), makers.meta())
    collected(tmp_path, Shard(1, 3), makers.meta())


def test_nothing_collected_yet_is_nothing_done(tmp_path: Path) -> None:
    assert collected(tmp_path, Shard(0, 2), makers.meta()) == set()
    assert collected(tmp_path, None, makers.meta()) == set()
