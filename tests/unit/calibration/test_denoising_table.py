"""Recorded decodes: checked columns, selection, and files that survive or say what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from denoising_makers import decodes_of, table_of
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from calibration.denoising import COLUMNS, DenoisingTable
from calibration.denoising_files import ARRAYS, META, NAMES, TENSORS
from probes.errors import InputError

STEP = (True, 1)
DECODES = [[[STEP, STEP]], [[(False, 0), STEP, STEP], [STEP]], [[STEP]]]


def same(one: DenoisingTable, other: DenoisingTable) -> bool:
    return (
        all(np.array_equal(getattr(one, n), getattr(other, n), equal_nan=n == "values")
            and getattr(one, n).dtype == getattr(other, n).dtype for n in ARRAYS)
        and all(getattr(one, n) == getattr(other, n) for n in NAMES)
        and one.settings == other.settings
    )  # fmt: skip


@settings(deadline=None)
@given(decodes_of, st.data())
def test_chosen_decodes_keep_their_steps_and_their_order(
    decodes: list[Any], data: st.DataObject
) -> None:
    table = table_of(decodes)
    several = st.lists(st.integers(0, len(decodes) - 1), unique=True) if decodes else st.just([])
    rows = data.draw(several)
    chosen = table.select(rows)
    assert chosen.trace_ids == tuple(f"decode-{row}" for row in rows)
    assert same(chosen, DenoisingTable.concat([table.select([r]) for r in rows] or [chosen]))
    assert chosen.full_steps().tolist() == [sum(map(len, decodes[row])) for row in rows]
    inside = np.isin(np.arange(len(table)), rows)
    assert table.select(inside).trace_ids == tuple(f"decode-{row}" for row in sorted(rows))
    assert same(table.select(np.arange(len(table))), table)
    assert chosen.full_correct().tolist() == [decodes[row][-1][-1][1] for row in rows]


def test_a_table_comes_back_from_its_files(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((7, 8), dtype=np.float32)
    values[0, 0], values[1, 1] = np.nan, np.inf
    table = table_of(DECODES, values=values)
    table.save(tmp_path / "new" / "folder")
    assert same(DenoisingTable.load(tmp_path / "new" / "folder"), table)
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [META, TENSORS]
    fields = json.loads((tmp_path / "new" / "folder" / META).read_text())
    assert fields["settings"] == {"sampler": {"steps": 4}, "model": {"model": "tiny"}}
    table_of([]).save(tmp_path)
    assert len(DenoisingTable.load(tmp_path)) == 0


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        fields = json.loads((folder / META).read_text())
        change(fields)
        (folder / META).write_text(json.dumps(fields))

    return apply


def swap_tensors(folder: Path) -> None:
    arrays = load_file(folder / TENSORS)
    arrays["agree"] = ~arrays["agree"]
    save_file(arrays, folder / TENSORS)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no_json": (lambda at: (at / META).unlink(), META),
    "no_tensors": (lambda at: (at / TENSORS).unlink(), TENSORS),
    "half_json": (lambda at: (at / META).write_bytes((at / META).read_bytes()[:50]), "not JSON"),
    "json_list": (lambda at: (at / META).write_text("[]"), META),
    "cut_tensors": (
        lambda at: (at / TENSORS).write_bytes((at / TENSORS).read_bytes()[:-1]),
        "not the file that",
    ),
    "other_tensors": (swap_tensors, "not the file that"),
    "newer": (edit(lambda fields: fields.update(schema_version=2)), "schema_version"),
    "unknown_field": (edit(lambda fields: fields.update(more=1)), "more"),
    "name_missing": (edit(lambda fields: fields["groups"].pop()), "differ in length"),
    "unknown_signal": (
        edit(lambda fields: fields["signals"].__setitem__(0, "masked.mode")),
        "signals are",
    ),
    "number_for_name": (edit(lambda fields: fields["levels"].__setitem__(0, 3)), "levels.0"),
}


@pytest.mark.parametrize("kind", list(DAMAGE))
def test_damaged_files_are_named(kind: str, tmp_path: Path) -> None:
    table_of(DECODES).save(tmp_path)
    damage, says = DAMAGE[kind]
    damage(tmp_path)
    with pytest.raises(InputError, match=says) as problem:
        DenoisingTable.load(tmp_path)
    assert str(tmp_path) in str(problem.value)


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="cannot be"):
        table_of(DECODES).save(tmp_path / "taken")
    with pytest.raises(InputError, match="Point to a folder"):
        DenoisingTable.load(tmp_path / "nothing")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "dtype": ({"agree": np.ones(7, np.int8)}, r"agree is int8 \[7\], expected bool"),
    "length": ({"changed": np.ones(6, np.bool_)}, "changed is bool"),
    "columns": ({"signals": COLUMNS[:7]}, "values is float32"),
    "signal_twice": ({"signals": (*COLUMNS[:7], COLUMNS[0])}, "signals are"),
    "name_twice": ({"trace_ids": ("a", "a", "b")}, "twice"),
    "groups": ({"groups": ("a",)}, "differ in length"),
    "empty_block": ({"block_offsets": np.array([0, 2, 2, 5, 7])}, "must rise from 0 to 7"),
    "steps_left": ({"block_offsets": np.array([0, 2, 5, 6, 6])}, "must rise"),
    "no_blocks": ({"block_offsets": np.zeros(0, np.int64)}, "block_offsets is int64"),
    "empty_trace": ({"trace_offsets": np.array([0, 1, 1, 4])}, "trace_offsets must rise"),
    "progress": ({"progress": np.full(7, 1.5, np.float32)}, r"progress must lie in \[0, 1\]"),
    "progress_nan": ({"progress": np.full(7, np.nan, np.float32)}, "progress must lie"),
    "correct": ({"correct": np.full(7, 2, np.int8)}, "correct must be"),
    "unchanged": ({"changed": np.zeros(7, np.bool_)}, "first step of a block"),
    "last_differs": ({"agree": np.zeros(7, np.bool_)}, "last step of a block"),
}


@pytest.mark.parametrize("kind", list(WRONG))
def test_columns_that_do_not_belong_together_are_refused(kind: str) -> None:
    fields, says = WRONG[kind]
    with pytest.raises(InputError, match=says):
        table_of(DECODES, **fields)


@pytest.mark.parametrize(
    "rows", [[3], [-1], [0.5], [[0]], np.ones(2, np.bool_)],
    ids=["beyond", "negative", "fraction", "square", "bools"],
)  # fmt: skip
def test_rows_that_are_not_there_are_refused(rows: Any) -> None:
    with pytest.raises(InputError, match="not traces of a table of 3"):
        table_of(DECODES).select(rows)


def test_only_decodes_of_one_setting_are_put_together() -> None:
    one = table_of(DECODES)
    other = table_of(DECODES, settings={"sampler": {"steps": 9}, "model": {"model": "tiny"}})
    with pytest.raises(InputError, match="differ in sampler"):
        DenoisingTable.concat([one, other])
    few = table_of(DECODES, signals=COLUMNS[:1], values=one.values[:, :1])
    with pytest.raises(InputError, match="differ in signals"):
        DenoisingTable.concat([one, few])
    with pytest.raises(InputError, match="record some"):
        DenoisingTable.concat([])
    with pytest.raises(InputError, match="twice"):
        DenoisingTable.concat([one, one])


def test_a_signal_is_read_by_name() -> None:
    table = table_of(DECODES)
    assert table.column("span.min").tolist() == table.values[:, 7].tolist()
    with pytest.raises(InputError, match=r"'span\.mode' was not recorded; there are masked\.mean"):
        table.column("span.mode")
