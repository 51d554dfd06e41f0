"""The files of a data set as one table: Parquet, Arrow, JSON, CSV, alone or in a folder.

Read with pyarrow alone, which knows all of these formats; the ``datasets`` library is not needed.
Two kinds of folder are understood: what ``Dataset.save_to_disk`` and ``DatasetDict.save_to_disk``
write, and the files of a dataset repository as downloaded from the hub.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stopper.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".parquet", ".arrow", ".feather", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
"""File endings that are read as tables."""

_SHARD = re.compile(r"(?:-\d{5}-of-\d{5}|-\d{5})$")


def load_table(path: Path, split: str | None = None) -> tuple[pa.Table, str]:
    """Read one split of a data set.

    Returns
    -------
    The table, and what to call it in messages.

    Raises
    ------
    InputError
        Naming the file, or the splits there are.

    """
    try:
        import pyarrow as pa
    except ImportError:
        raise UnsupportedError(
            "reading data sets needs pyarrow; install it with `pip install 'stopper[calibrate]'`"
        ) from None
    files = _files(path, split)
    try:
        tables = [_read(file) for file in files]
        table = (
            tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="default")
        )
        table.validate(full=True)  # texts that are no UTF-8 would fail later, far from their file
        names = table.column_names
    except OSError as problem:
        raise InputError(f"{files[0]}: cannot be read ({_first_line(problem)})") from None
    except (pa.ArrowException, ValueError, RecursionError) as problem:
        raise InputError(
            f"{files[0]}: is no table that can be read ({_first_line(problem)})"
        ) from None
    what = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more files"
    if len(set(names)) < len(names):
        raise InputError(f"{what}: a column's name occurs twice; rename one")
    return table, what


def _first_line(problem: Exception) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]


def _read(file: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.ipc
    import pyarrow.parquet

    kind = file.suffix.lower()
    if kind == ".parquet":
        return pa.parquet.ParquetFile(file).read()
    if kind in (".arrow", ".feather"):
        with pa.memory_map(str(file)) as source:
            try:
                return pa.ipc.open_stream(source).read_all()  # as `datasets` writes
            except pa.ArrowInvalid:
                return pa.ipc.open_file(source).read_all()
    if kind in (".csv", ".tsv"):
        options = pa.csv.ParseOptions(
            delimiter="\t" if kind == ".tsv" else ",", newlines_in_values=True
        )
        return pa.csv.read_csv(file, parse_options=options)
    text = file.read_text(encoding="utf-8")
    if kind == ".json" and text.lstrip().startswith("["):
        rows = json.loads(text)
    else:
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("its entries are not all objects")
    names = list(dict.fromkeys(name for row in rows for name in row))
    # Texts and numbers may be mixed in one column: Arrow needs one type, a person's file does not.
    return pa.table({name: _column([row.get(name) for row in rows]) for name in names})


def _column(values: list[Any]) -> Any:
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return pa.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values])


def _files(path: Path, split: str | None) -> list[Path]:
    """List the files of one split."""
    if path.is_file():
        if split is not None:
            raise InputError(f"--split {split}: {path} is one file, without splits. Leave it out")
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: No such file or directory; give a file or a dataset folder")
    splits = _splits(path)
    if not splits:
        raise InputError(
            f"{path}: holds no data set (looked for {', '.join(SUFFIXES)}, also in its folders)"
        )
    wanted = split
    matching = [
        name for name in splits if wanted in (None, name) or name.rsplit("/", 1)[-1] == wanted
    ]
    if wanted in splits:
        matching = [str(wanted)]
    if len(matching) != 1:
        problem = "has several splits" if split is None else f"--split {split} is not one of them"
        raise InputError(f"{path}: {problem}; choose by --split one of {', '.join(splits)}")
    return splits[matching[0]]


def _splits(folder: Path) -> dict[str, list[Path]]:
    if (folder / "dataset_dict.json").is_file():
        names = _state(folder / "dataset_dict.json").get("splits", [])
        return {str(name): _saved(folder / str(name)) for name in names}
    if (folder / "state.json").is_file():
        return {"all": _saved(folder)}
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*")):
        inner = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in inner.parts)
        if hidden or not file.is_file() or file.suffix.lower() not in SUFFIXES:
            continue
        if inner.name in ("dataset_info.json", "dataset_infos.json", "config.json"):
            continue
        stem = _SHARD.sub("", inner.name.removesuffix(inner.suffix))
        parents = [part for part in inner.parts[:-1] if part != "data"]
        found.setdefault("/".join([*parents, stem]), []).append(file)
    return found


def _saved(folder: Path) -> list[Path]:
    """List the files of a saved Dataset in their order."""
    state = _state(folder / "state.json")
    if state.get("_indices_files"):
        raise InputError(
            f"{folder}: is a selection over other rows. Save it again after `flatten_indices()`"
        )
    entries = state.get("_data_files")
    names = [
        entry["filename"]
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and isinstance(entry.get("filename"), str)
    ]
    if not names or any(Path(name).name != name for name in names):
        raise InputError(f"{folder / 'state.json'}: names no data files. Save the data set again")
    return [folder / name for name in names]


def _state(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as problem:
        reason = _first_line(problem)
        raise InputError(f"{path}: not JSON ({reason}). Save the data set again") from None
    if not isinstance(fields, dict):
        raise InputError(f"{path}: must be an object. Save the data set again")
    return fields
