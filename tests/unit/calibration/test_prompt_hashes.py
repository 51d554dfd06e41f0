"""No prompt in two splits, whatever its groups are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.prompts import PromptIndex, prompt_hash, prompt_index, without_leaks
from calibration.records import TraceMeta, TraceRecord
from calibration.splits import group_hash
from calibration.traces import TraceDataset, TraceWriter
from probes.errors import InputError
from probes.provenance import Closing, ModelFingerprint

PAIRS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 6)), max_size=40)


def record(number: int, group: str, prompt_ids: list[int]) -> TraceRecord:
    return TraceRecord(
        trace_id=f"t{number}",
        group=group,
        prompt_ids=prompt_ids,
        output_ids=[1],
        thinking_tokens=1,
        text="",
        answer=None,
        gold=None,
        full_correct=None,
        level=None,
        finish_reason="stop",
        cues=[],
        hidden=np.empty((0, 2), dtype=np.float32),
    )


def store(folder: Path, traces: list[tuple[str, list[int]]], part: int = 3) -> TraceDataset:
    model = ModelFingerprint(
        model="m",
        architecture="a",
        hidden_size=2,
        num_layers=1,
        vocab_size=9,
        dtype="float32",
        tokenizer_sha256="0" * 64,
    )
    meta = TraceMeta(
        model=model, layers=(1,), hidden_size=2, cues={}, closing=Closing(end_ids=(1,))
    )
    with TraceWriter(folder, meta, part_traces=part) as writer:
        for number, (group, ids) in enumerate(traces):
            writer.append(record(number, group, ids))
    return TraceDataset(folder)


def index_of(pairs: list[tuple[str, int]]) -> PromptIndex:
    groups = list(dict.fromkeys(group for group, _ in pairs))
    distinct = sorted({(groups.index(group), prompt) for group, prompt in pairs})
    members, hashes = np.array(distinct, dtype=np.int64).reshape(-1, 2).T
    return PromptIndex(groups, members, hashes.astype(np.uint64))


def test_the_hash_is_that_of_the_documented_bytes() -> None:
    # The first 8 bytes of the SHA-256 of 01000000 ff000000, and of nothing.
    assert prompt_hash([1, 255]) == int("3bdc5f1618ec2afa", 16)
    assert prompt_hash([]) == int("e3b0c44298fc1c14", 16) == group_hash("")
    assert len({prompt_hash(ids) for ids in ([1, 2], [2, 1], [1], [12], [])}) == 5


def test_a_store_is_indexed_over_its_parts(tmp_path: Path) -> None:
    traces = [
        ("a", [1, 2]),
        ("a", [1, 2]),
        ("b", [3]),
        ("a", [4]),
        ("c", [1, 2]),
        ("b", []),
        ("a", [1, 2]),
    ]
    index = prompt_index(store(tmp_path / "s", traces))
    assert list(index.groups) == ["a", "b", "c"]
    found = {
        (index.groups[member], int(hashed))
        for member, hashed in zip(index.members, index.hashes, strict=True)
    }
    assert found == {(group, prompt_hash(ids)) for group, ids in traces}
    assert len(index.members) == len(found)
    assert index.of(["a", "nobody"]).tolist() == sorted([prompt_hash([1, 2]), prompt_hash([4])])
    assert index.sharing(["a", "b", "c"], index.of(["a"])) == ["a", "c"]
    assert index.of([]).size == 0


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    dataset = store(tmp_path / "s", [("a", [1])])
    path = dataset.parts[0]
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InputError, match=r"part-00000\.parquet.*Delete this part"):
        prompt_index(dataset)


@given(PAIRS, st.lists(st.sampled_from(["train", "select", "calibrate"]), min_size=8, max_size=8))
@settings(deadline=None)
def test_what_is_kept_shares_no_prompt_and_nobody_is_lost_for_nothing(
    pairs: list[tuple[str, int]], where: list[str]
) -> None:
    index = index_of(pairs)
    prompts = {group: {p for g, p in pairs if g == group} for group in index.groups}
    splits: dict[str, list[str]] = {"train": [], "select": [], "calibrate": []}
    for group in index.groups:
        splits[where["abcdefgh".index(group)]].append(group)
    kept, leaks = without_leaks(index, splits)
    assert kept["train"] == splits["train"]
    everyone = [leak.group for leak in leaks] + [group for part in kept.values() for group in part]
    assert sorted(everyone) == sorted(index.groups)
    held = {name: set().union(*(prompts[g] for g in groups)) for name, groups in kept.items()}
    assert not held["train"] & held["select"]
    assert not (held["train"] | held["select"]) & held["calibrate"]
    for leak in leaks:
        assert leak.group in splits[leak.split]
        assert prompts[leak.group] & held[leak.earlier]


def test_a_prompt_costs_sixteen_bytes(tmp_path: Path) -> None:
    dataset = store(tmp_path / "s", [(f"g{k}", [k]) for k in range(200)], part=64)
    index = prompt_index(dataset)
    assert index.hashes.dtype == np.uint64
    assert index.hashes.nbytes + index.members.nbytes == 16 * 200
