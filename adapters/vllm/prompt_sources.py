"""Where prompts come from: lines of our own, data sets, or the log of a running server."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from adapters.vllm.dataset_files import SUFFIXES
from adapters.vllm.prompt_requests import is_logged, looks_like_requests, read_requests
from adapters.vllm.prompt_tables import PROMPT_COLUMNS, read_table
from adapters.vllm.prompts import Prompt, read_prompts
from stopper.errors import InputError

KINDS = ("auto", "prompts", "dataset", "requests")
"""What ``--prompts-as`` offers."""

REPEATS = ("once", "rollouts")
"""What ``--repeated`` offers for prompts that occur again in a server's log."""


@dataclass(frozen=True, slots=True)
class PromptSource:
    """How to read ``--prompts``; the defaults are those of ``stopper collect``."""

    kind: str = "auto"
    prompt_column: str | None = None
    answer_column: str | None = None
    split: str | None = None
    requests_model: str | None = None
    repeated: str = "once"


@dataclass(slots=True)
class Read:
    """Prompts, and what a person should know of how they were read."""

    prompts: list[Prompt]
    notes: list[str] = field(default_factory=list)


def read_source(
    path: Path, source: PromptSource, limit: int | None = None, served: str | None = None
) -> Read:
    """Read prompts of any kind.

    Parameters
    ----------
    path
        A file or a folder.
    source
        How to read it. Kind ``auto``: a folder, and a file that ends like a table, is a data set; a
        file whose first line is a logged request is a log; all else is JSONL of prompts.
    limit
        Take only so many prompts; those that are skipped do not count.
    served
        The model to collect from: of a log with requests to several, those to it are taken.

    Raises
    ------
    InputError
        Naming the file and what is wrong, or an option that this kind does not have.

    """
    for name, value, choices in (
        ("--prompts-as", source.kind, KINDS), ("--repeated", source.repeated, REPEATS)
    ):  # fmt: skip
        if value not in choices:
            raise InputError(f"{name} {value}: choose one of {', '.join(choices)}")
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: must be at least 1")
    kind = _kind(path) if source.kind == "auto" else source.kind
    _refuse_strange_options(kind, source)
    if kind == "prompts":
        return Read(read_prompts(path, limit))
    if kind == "dataset":
        rows = read_table(path, source.prompt_column, source.answer_column, source.split)
        found = Read(rows.prompts, rows.notes)
    else:
        found = _read_log(path, source, served)
    if not found.prompts:
        reasons = "; ".join(found.notes)
        raise InputError(f"{path}: holds no prompts that can be taken ({reasons})")
    if limit is not None:
        found.prompts = found.prompts[:limit]
    return found


def _kind(path: Path) -> str:
    if path.is_dir():
        return "dataset"
    suffix = path.suffix.lower()
    if suffix in SUFFIXES and suffix not in (".jsonl", ".ndjson", ".json"):
        return "dataset"
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            lines = (line for line in file if line.strip())
            first = next(lines, "")
            # A server says much before its first request.
            logged = not first.lstrip().startswith("{") and (
                is_logged(first) or any(map(is_logged, lines))
            )
    except OSError:
        return "prompts"  # which names the problem
    if first.lstrip().startswith("[") and suffix == ".json":
        return "dataset"
    if logged or looks_like_requests(first):
        return "requests"
    return "dataset" if _looks_like_a_table(first) else "prompts"


def _looks_like_a_table(line: str) -> bool:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return False
    if not isinstance(fields, dict) or {"messages", "prompt"} & set(fields):
        return False
    return bool(set(PROMPT_COLUMNS) & set(fields))


def _refuse_strange_options(kind: str, source: PromptSource) -> None:
    given = {
        "dataset": {
            "--prompt-column": source.prompt_column,
            "--answer-column": source.answer_column,
            "--split": source.split,
        },
        "requests": {
            "--requests-model": source.requests_model,
            "--repeated": None if source.repeated == "once" else source.repeated,
        },
    }
    for other, options in given.items():
        for name, value in options.items():
            if value is not None and other != kind:
                raise InputError(
                    f"{name} {value}: is for prompts read as {other!r}, and these are read as "
                    f"{kind!r}. Leave it out, or say --prompts-as {other}"
                )


def _read_log(path: Path, source: PromptSource, served: str | None) -> Read:
    def read(model: str | None) -> tuple[Read, dict[str, int]]:
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                server_log = any(map(is_logged, file))
                file.seek(0)
                traffic = read_requests(file, model, source.repeated == "rollouts", server_log)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; give the log of a server") from None
        notes = [f"{path}: read as a server's log", *traffic.notes(source.repeated == "rollouts")]
        return Read(traffic.prompts, notes), dict(traffic.models)

    wanted = source.requests_model
    found, models = read(wanted)
    if wanted is not None and wanted not in models:
        known = ", ".join(models) or "none"
        raise InputError(f"--requests-model {wanted}: {path} has requests to {known}")
    if wanted is None and len(models) > 1:
        names = {served, None if served is None else Path(served).name} & set(models)
        if len(names) != 1:
            raise InputError(
                f"{path}: has requests to several models ({', '.join(models)}); choose by "
                "--requests-model the one that is served as MODEL"
            )
        wanted = names.pop()
        found, _ = read(wanted)
    if wanted is not None:
        found.notes.append(f"taken: requests to {wanted!r}")
    return found
