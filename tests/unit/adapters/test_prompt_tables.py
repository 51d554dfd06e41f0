"""Data sets become prompts: formats, folders, splits, columns, and what is said about them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.vllm.dataset_files import load_table
from adapters.vllm.prompt_sources import PromptSource, Read, read_source
from adapters.vllm.prompt_tables import read_table
from calibration.comparers import get_comparer
from stopper.errors import InputError

ROWS = [
    {"question": "What is 3+4?", "answer": "7", "level": "Level 2", "subject": "Algebra"},
    {"question": "What is 4+4?", "answer": "8", "level": "Level 5", "subject": "Algebra"},
]


def saved(folder: Path, rows: list[dict[str, Any]], shards: int = 1) -> Path:
    """Lay rows out as ``Dataset.save_to_disk`` does."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"data-{k:05d}-of-{shards:05d}.arrow" for k in range(shards)]
    for k, name in enumerate(names):
        table = pa.Table.from_pylist(rows[k::shards])
        with (
            pa.OSFile(str(folder / name), "wb") as sink,
            pa.ipc.new_stream(sink, table.schema) as out,
        ):
            out.write_table(table)
    (folder / "dataset_info.json").write_text("{}")
    state = {"_data_files": [{"filename": name} for name in names], "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    return folder


def parquet(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(pa.Table.from_pylist(rows), file)
    return file


def read(path: Path, **options: Any) -> Read:
    return read_source(path, PromptSource(**options))


def questions(found: Read) -> list[str]:
    return [prompt.messages[0]["content"] for prompt in found.prompts if prompt.messages]


def write(folder: Path, kind: str) -> Path:
    file = folder / f"rows.{kind}"
    table = pa.Table.from_pylist(ROWS)
    if kind == "parquet":
        pa.parquet.write_table(table, file)
    elif kind == "csv":
        pa.csv.write_csv(table, file)
    elif kind == "tsv":
        pa.csv.write_csv(table, file, pa.csv.WriteOptions(delimiter="\t"))
    elif kind == "arrow":
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
            out.write_table(table)
    elif kind == "json":
        file.write_text(json.dumps(ROWS))
    else:
        file.write_text("\n".join(map(json.dumps, ROWS)))
    return file


@pytest.mark.parametrize("kind", ["parquet", "csv", "tsv", "arrow", "json", "jsonl"])
def test_every_format_gives_the_same_prompts(tmp_path: Path, kind: str) -> None:
    found = read(write(tmp_path, kind))
    first, second = found.prompts
    assert first.messages == [{"role": "user", "content": "What is 3+4?"}]
    assert (first.answer, first.level, first.category) == ("7", 2, "Algebra")
    assert (first.id, second.id, second.answer) == ("0", "1", "8")
    assert first.group != second.group
    assert found.notes[0].endswith(
        "2 rows; prompt from 'question', answer from 'answer', level from 'level', "
        "category from 'subject'"
    )


def test_a_saved_data_set_and_a_saved_dictionary_of_them(tmp_path: Path) -> None:
    assert questions(read(saved(tmp_path / "one", ROWS))) == ["What is 3+4?", "What is 4+4?"]
    assert len(read(saved(tmp_path / "shards", ROWS, shards=2)).prompts) == 2
    both = tmp_path / "both"
    saved(both / "train", ROWS)
    saved(both / "test", ROWS[:1])
    (both / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    assert len(read(both, split="test").prompts) == 1
    with pytest.raises(InputError, match="several splits; choose by --split one of train, test"):
        read(both)
    with pytest.raises(InputError, match=r"--split dev is not one of them; choose .* train, test"):
        read(both, split="dev")


def test_a_downloaded_repository(tmp_path: Path) -> None:
    parquet(tmp_path / "main" / "train-00000-of-00002.parquet", ROWS[:1])
    parquet(tmp_path / "main" / "train-00001-of-00002.parquet", ROWS[1:])
    parquet(tmp_path / "main" / "test-00000-of-00001.parquet", ROWS[:1])
    parquet(tmp_path / "socratic" / "train-00000-of-00001.parquet", ROWS[:1])
    (tmp_path / "README.md").write_text("# A data set")
    assert questions(read(tmp_path, split="main/train")) == ["What is 3+4?", "What is 4+4?"]
    assert len(read(tmp_path, split="test").prompts) == 1
    with pytest.raises(InputError, match="choose by --split one of main/test, main/train, socrati"):
        read(tmp_path, split="train")
    alone = parquet(tmp_path / "b" / "data" / "test-00000-of-00001.parquet", ROWS)
    assert len(read(alone.parent.parent).prompts) == 2


def test_columns_can_be_named(tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet", [{"frage": "3+4?", "text": "7", "question": "no"}])
    found = read(file, prompt_column="frage", answer_column="text")
    assert questions(found) == ["3+4?"]
    assert found.prompts[0].answer == "7"
    with pytest.raises(InputError, match=r"--prompt-column x: .* has the columns frage, text, que"):
        read(file, prompt_column="x")
    nameless = parquet(tmp_path / "b.parquet", [{"frage": "3+4?"}])
    with pytest.raises(InputError, match=r"none of its columns \(frage\) .* by --prompt-column"):
        read(nameless)


def test_known_data_sets_are_understood(tmp_path: Path) -> None:
    gsm8k = [{"question": "How many?", "answer": "3 + 4 = <<3+4=7>>7\n#### 7"}]
    found = read(parquet(tmp_path / "gsm8k.parquet", gsm8k))
    assert found.prompts[0].answer == "7"
    assert "answers are what follows '####' or stands in the last box" in found.notes
    math = [{"problem": "1/2?", "level": "Level 4", "type": "Algebra", "solution": r"\boxed{2}"}]
    (prompt,) = read(parquet(tmp_path / "math.parquet", math)).prompts
    assert (prompt.answer, prompt.level, prompt.category) == ("2", 4, "Algebra")
    mmlu = [{"question": "Capital?", "subject": "geo", "choices": ["Rome", "Paris"], "answer": 1}]
    (prompt,) = read(parquet(tmp_path / "mmlu.parquet", mmlu)).prompts
    assert prompt.messages == [{"role": "user", "content": "Capital?\n(A) Rome\n(B) Paris"}]
    assert prompt.answer == "B"
    assert get_comparer("choice").same("**B. Paris**", prompt.answer)
    arc = [{"id": "x7", "question": "Why?", "answerKey": "2",
            "choices": {"text": ["a", "b"], "label": ["1", "2"]}}]  # fmt: skip
    (prompt,) = read(parquet(tmp_path / "arc.parquet", arc)).prompts
    assert questions(Read([prompt])) == ["Why?\n(1) a\n(2) b"]
    assert (prompt.id, prompt.answer) == ("x7", "2")
    chat = [
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
    ]
    (prompt,) = read(parquet(tmp_path / "chat.parquet", chat)).prompts
    assert prompt.messages == [{"role": "user", "content": "Hi"}]


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    rows = [
        {"question": "a", "answer": "1", "level": "hard"},
        {"question": " ", "answer": "1", "level": "2"},
        {"question": None, "answer": "1", "level": "2"},
        {"question": "b", "answer": None, "level": "3"},
    ]
    found = read(parquet(tmp_path / "a.parquet", rows))
    assert [(p.answer, p.level) for p in found.prompts] == [("1", None), (None, 3)]
    assert found.notes[1:] == [
        "2 rows without a question were skipped",
        "1 answers are missing or not understood: no gold answer there",
        "1 levels are no whole number: left out",
    ]


def test_ids_are_taken_where_they_are_all_different(tmp_path: Path) -> None:
    twice = [{"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"}]
    found = read(parquet(tmp_path / "a.parquet", twice))
    assert [prompt.id for prompt in found.prompts] == ["0", "1"]
    own = [{"id": 7, "prompt": "x"}, {"id": 9, "prompt": "y"}]
    assert [p.id for p in read(parquet(tmp_path / "b.parquet", own)).prompts] == ["7", "9"]


def test_lines_of_our_own_are_read_as_before(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"id": "a", "prompt": "3+4=", "answer": "7"}\n')
    found = read(file)
    assert (found.prompts[0].prompt, found.notes) == ("3+4=", [])
    as_chat = read(file, kind="dataset").prompts[0]
    assert (as_chat.prompt, as_chat.messages) == (None, [{"role": "user", "content": "3+4="}])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "table"}, "--prompts-as table: choose one of auto, prompts, dataset, requests"),
        ({"repeated": "twice"}, "--repeated twice: choose one of once, rollouts"),
        (
            {"split": "test"},
            "--split test: is for prompts read as 'dataset', and these .*'prompts'",
        ),
        ({"repeated": "rollouts"}, "--repeated rollouts: is for prompts read as 'requests'"),
        ({"kind": "dataset", "split": "test"}, "is one file, without splits"),
        ({"kind": "dataset", "requests_model": "m"}, "is for prompts read as 'requests'"),
    ],
)
def test_options_that_do_not_apply_are_refused(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "a"}\n')
    with pytest.raises(InputError, match=words):
        read(file, **options)


def test_folders_and_files_that_are_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing more")
    (tmp_path / "ragged.csv").write_text("question\na\nb,c\n")
    (tmp_path / "latin.csv").write_bytes(b"question\n\xe4\n")
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "twice.csv").write_text("question,question\na,b\n")
    (tmp_path / "none.csv").write_text("question\n")
    parquet(tmp_path / "odd.parquet", [{"question": [{"role": "user"}]}])
    for name, words in (
        ("missing.csv", "No such file"),
        ("empty", "holds no data set"),
        ("broken.parquet", "is no table that can be read"),
        ("ragged.csv", "is no table that can be read"),
        ("list.json", "its entries are not all objects"),
        ("twice.csv", "a column's name occurs twice"),
        ("none.csv", "holds no prompts that can be taken"),
        ("odd.parquet", r"row 0, column 'question': must be a text, or a list of \{role, content"),
        ("latin.csv", "is no table that can be read|holds no prompts"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            read(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_saved_data_set_that_is_damaged(tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", ROWS)
    (folder / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(InputError, match=r"data-00000.*cannot be read"):
        read(folder)
    for state, words in (
        ("{", "not JSON"),
        ("[]", "must be an object"),
        ('{"_data_files": [{"filename": "../../secret.arrow"}]}', "names no data files"),
        ('{"_data_files": 5}', "names no data files"),
        ('{"_data_files": [], "_indices_files": [{"filename": "i"}]}', "selection over other rows"),
    ):
        (folder / "state.json").write_text(state)
        with pytest.raises(InputError, match=words):
            read(folder)


CELL = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5),
    st.lists(st.one_of(st.text(max_size=3), st.integers(0, 9)), max_size=2),
    st.fixed_dictionaries({"role": st.text(max_size=3), "content": st.text(max_size=3)}).map(
        lambda turn: [turn]
    ),
    st.fixed_dictionaries({"text": st.lists(st.text(max_size=2)), "label": st.lists(st.text())}),
)  # fmt: skip
NAMES = st.sampled_from(
    ["question", "messages", "answer", "choices", "level", "id", "subject", "x"]
)


@given(st.lists(st.dictionaries(NAMES, CELL, max_size=5), max_size=4))
@settings(deadline=None, max_examples=100)
def test_any_rows_are_read_or_refused(tmp_path_factory: Any, rows: list[dict[str, Any]]) -> None:
    file = tmp_path_factory.getbasetemp() / "any.json"
    file.write_text(json.dumps(rows), encoding="utf-8", errors="replace")
    try:
        found = read_table(file)
        assert load_table(file)[0].num_rows == len(rows)
    except InputError as problem:
        assert "\n" not in str(problem)
    else:
        assert len(found.prompts) <= len(rows)
        assert len({prompt.id for prompt in found.prompts}) == len(found.prompts)


@given(st.binary(max_size=60), st.sampled_from(["parquet", "arrow", "csv", "json", "jsonl"]))
@settings(deadline=None, max_examples=100)
def test_any_bytes_are_read_or_refused(tmp_path_factory: Any, data: bytes, kind: str) -> None:
    file = tmp_path_factory.getbasetemp() / f"bytes.{kind}"
    file.write_bytes(data)
    try:
        read(file)
    except InputError as problem:
        assert "\n" not in str(problem)
