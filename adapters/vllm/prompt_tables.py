"""Prompts out of data sets: a Hugging Face dataset folder, or a Parquet, Arrow, JSON or CSV file.

Columns are recognised by the names that data sets use, or named by the caller; what was taken is
said. The files themselves are read by adapters/vllm/dataset_files.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adapters.vllm.dataset_files import load_table
from adapters.vllm.prompts import Prompt
from calibration.answers import extract_answer
from stopper.errors import InputError

PROMPT_COLUMNS = (
    "messages", "conversation", "prompt", "question", "problem", "query", "instruction", "input",
)  # fmt: skip
ANSWER_COLUMNS = (
    "answer", "final_answer", "expected_answer", "answerKey", "answer_key", "ground_truth", "gold",
    "target", "solution", "output",
)  # fmt: skip
CHOICE_COLUMNS = ("choices", "options")
LEVEL_COLUMNS = ("level", "difficulty")
CATEGORY_COLUMNS = ("subject", "category", "type", "domain")
ID_COLUMNS = ("id", "unique_id", "problem_id", "question_id", "uid")
GROUP_COLUMNS = ("group",)

_HASHES = re.compile(r"####\s*(\S.*)\s*$")


@dataclass(slots=True)
class Rows:
    """What a data set held: its prompts, and remarks on what was taken."""

    prompts: list[Prompt] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_table(
    path: Path,
    prompt_column: str | None = None,
    answer_column: str | None = None,
    split: str | None = None,
) -> Rows:
    """Read the prompts of a data set.

    Parameters
    ----------
    path
        A folder or a file.
    prompt_column, answer_column
        Names of columns; by default the first of :data:`PROMPT_COLUMNS` and of
        :data:`ANSWER_COLUMNS` that is there. A column of texts becomes one user message each.
    split
        Which of several splits, such as "test" or "main/test".

    Raises
    ------
    InputError
        Naming the file, the column or the split, and what there is.

    """
    table, what = load_table(path, split)
    columns = {name: table.column(name) for name in table.column_names}
    taken = _choose(columns, path, prompt_column, answer_column)
    found = Rows()
    found.notes.append(
        f"{what}: {table.num_rows} rows; "
        + ", ".join(f"{role} from {name!r}" for role, name in taken.items() if name is not None)
    )
    empty = unlabelled = odd_levels = 0
    ids = _ids(columns, taken["id"])
    values = {role: columns[name].to_pylist() for role, name in taken.items() if name is not None}
    for row in range(table.num_rows):
        cells = {role: column[row] for role, column in values.items()}
        try:
            asked = _asked(cells["prompt"], cells.get("choices"))
        except ValueError as problem:
            name = taken["prompt"]
            raise InputError(f"{what}: row {row}, column {name!r}: {problem}") from None
        if asked is None:
            empty += 1
            continue
        answer = _answer(cells.get("answer"), cells.get("choices"), taken["answer"])
        unlabelled += taken["answer"] is not None and answer is None
        level = _level(cells.get("level"))
        odd_levels += level is None and cells.get("level") is not None
        fields: dict[str, Any] = {
            "id": ids[row],
            "messages": asked,
            "answer": answer,
            "level": level,
            "category": _text(cells.get("category")),
            "group": _text(cells.get("group")) or "",
        }
        try:
            found.prompts.append(Prompt.model_validate(fields))
        except ValidationError as problem:
            fault = problem.errors()[0]
            where = ".".join(map(str, fault["loc"])) or "row"
            raise InputError(f"{what}: row {row}: {where}: {fault['msg']}") from None
    if taken["answer"] == "solution" or _hashed(values.get("answer")):
        found.notes.append("answers are what follows '####' or stands in the last box")
    for count, reason in (
        (empty, "rows without a question were skipped"),
        (unlabelled, "answers are missing or not understood: no gold answer there"),
        (odd_levels, "levels are no whole number: left out"),
    ):
        if count:
            found.notes.append(f"{count} {reason}")
    return found


def _choose(
    columns: Mapping[str, Any], path: Path, prompt: str | None, answer: str | None
) -> dict[str, str | None]:
    """Decide which column is what."""

    def first(names: Sequence[str]) -> str | None:
        return next((name for name in names if name in columns), None)

    for flag, name in (("--prompt-column", prompt), ("--answer-column", answer)):
        if name is not None and name not in columns:
            raise InputError(f"{flag} {name}: {path} has the columns {', '.join(columns)}")
    chosen = prompt or first(PROMPT_COLUMNS)
    if chosen is None:
        raise InputError(
            f"{path}: none of its columns ({', '.join(columns)}) is called "
            f"{', '.join(PROMPT_COLUMNS)}; name the one with the questions by --prompt-column"
        )
    gold = answer or first([name for name in ANSWER_COLUMNS if name != chosen])
    return {
        "prompt": chosen,
        "answer": gold,
        "choices": first(CHOICE_COLUMNS),
        "level": first(LEVEL_COLUMNS),
        "category": first(CATEGORY_COLUMNS),
        "id": first(ID_COLUMNS),
        "group": first(GROUP_COLUMNS),
    }


def _ids(columns: Mapping[str, Any], name: str | None) -> list[str]:
    """Give every row a name: its own where those are all different, else its number."""
    own = [] if name is None else [_text(value) for value in columns[name].to_pylist()]
    if own and all(own) and len(set(own)) == len(own):
        return [str(value) for value in own]
    rows = len(next(iter(columns.values())))
    return [str(number) for number in range(rows)]


def _asked(cell: Any, choices: Any) -> list[dict[str, Any]] | None:
    """Turn a cell into a chat; None for an empty one."""
    if isinstance(cell, list):
        if not cell:
            return None
        turns = []
        for turn in cell:
            if not isinstance(turn, dict) or not isinstance(turn.get("content"), str):
                raise ValueError("must be a text, or a list of {role, content}")
            if not isinstance(turn.get("role"), str):
                raise ValueError("a message has no role")
            turns.append({"role": turn["role"], "content": turn["content"]})
        while turns and turns[-1]["role"] == "assistant":
            turns.pop()  # what a model is to write itself
        return turns or None
    text = _text(cell)
    if text is None:
        return None
    options = [f"({letter}) {option}" for letter, option in _options(choices)]
    return [{"role": "user", "content": "\n".join([text, *options])}]


def _options(choices: Any) -> Iterator[tuple[str, str]]:
    """Give the letters and texts of a multiple choice."""
    if isinstance(choices, dict):  # ARC: {"text": [...], "label": [...]}
        texts, labels = choices.get("text"), choices.get("label")
        if isinstance(texts, list) and isinstance(labels, list) and len(texts) == len(labels):
            yield from ((str(label), str(text)) for label, text in zip(labels, texts, strict=True))
    elif isinstance(choices, list):
        yield from ((chr(ord("A") + at), str(text)) for at, text in enumerate(choices[:26]))


def _answer(cell: Any, choices: Any, column: str | None) -> str | None:
    if isinstance(cell, list):
        cell = cell[0] if len(cell) == 1 else None  # several right answers: none to compare with
    if isinstance(cell, int) and not isinstance(cell, bool) and isinstance(choices, list):
        # MMLU counts the options from 0.
        return chr(ord("A") + cell) if 0 <= cell < len(choices) else None
    text = _text(cell)
    if text is None:
        return None
    if match := _HASHES.search(text):
        return match[1]
    return extract_answer(text) if column == "solution" else text


def _hashed(cells: list[Any] | None) -> bool:
    return any(isinstance(cell, str) and _HASHES.search(cell) for cell in cells or ())


def _level(cell: Any) -> int | None:
    """Read 3, "3" and "Level 3"."""
    if isinstance(cell, int) and not isinstance(cell, bool):
        return cell
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    match = (
        re.fullmatch(r"(?:level\s*)?(\d{1,6})", cell.strip(), re.I)
        if isinstance(cell, str)
        else None
    )
    return int(match[1]) if match else None


def _text(cell: Any) -> str | None:
    """Write a cell as text; None for an empty one."""
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        return None
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        cell = int(cell)
    return str(cell) if str(cell).strip() else None
