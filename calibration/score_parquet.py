"""Your own scores as Parquet: the same fields as the JSON Lines form, one row a trace.

``cues`` is a list of structs. Files are read in batches straight into columns, so that millions of
traces pass through without a Python object for each cue; a folder holds any number of part files.
pyarrow is imported on first use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.files import replacing
from calibration.strings import Seen, Strings
from calibration.table import UNKNOWN, CueTable, Looks
from probes.errors import InputError

SUFFIX = ".parquet"

#: Traces read and written at a time.
ROWS = 8192

_REMEDY = "see docs/formats.md, or write it with `stopper simulate --out FILE.parquet`"
_LABELS = ("correct", "agrees")
_LOOKS = ("repeats", "confidence", "answer_tokens")


def schema() -> Any:
    """Return the pyarrow schema (documented in ``docs/formats.md``)."""
    import pyarrow as pa

    cue = pa.struct(
        [
            pa.field("position", pa.int64(), nullable=False),
            pa.field("score", pa.float32(), nullable=False),
            pa.field("correct", pa.bool_()),
            pa.field("agrees", pa.bool_()),
            pa.field("repeats", pa.int32()),
            pa.field("confidence", pa.float32()),
            pa.field("answer_tokens", pa.int32()),
        ]
    )
    return pa.schema(
        [
            pa.field("trace_id", pa.string(), nullable=False),
            pa.field("group", pa.string(), nullable=False),
            pa.field("tokens", pa.int64(), nullable=False),
            pa.field("full_correct", pa.bool_()),
            pa.field("cues", pa.list_(pa.field("item", cue, nullable=False)), nullable=False),
            pa.field("level", pa.int32()),
            pa.field("category", pa.string()),
        ]
    )


def part_files(path: Path) -> list[Path]:
    """List the files to read: the file itself, or those of a folder by name.

    Raises
    ------
    InputError
        If a folder holds none.
    """
    if not path.is_dir():
        return [path]
    files = sorted(path.glob(f"*{SUFFIX}"))
    if not files:
        raise InputError(f"{path}: holds no {SUFFIX} file; give a folder of scored traces.")
    return files


def read_tables(path: str | Path) -> Iterator[CueTable]:
    """Read a file, or all files of a folder by name, in tables of at most :data:`ROWS` traces.

    Raises
    ------
    InputError
        Naming the file, the row (from 0 on) and the field, and the remedy: for damaged files, wrong
        types, missing or impossible values, a trace_id that was there before, or no trace at all.
    """
    seen, count = Seen(), 0
    for file in part_files(Path(path)):
        first = 0
        for batch in _batches(file):
            table = _table(file, first, batch)
            for row, trace_id in enumerate(table.trace_ids):
                if seen.first(trace_id, count + row) != count + row:
                    raise InputError(
                        f"{file}: row {first + row}: trace_id {trace_id!r} was already used; give "
                        "every trace its own (rollouts of one prompt share the group)."
                    )
            first += len(table)
            count += len(table)
            yield table
    if not count:
        raise InputError(f"{path}: holds no trace; {_REMEDY}.")


def count_traces(path: str | Path) -> int:
    """Count the traces of a file or folder by the files' ends alone."""
    return sum(_open(file).metadata.num_rows for file in part_files(Path(path)))


def write_tables(path: str | Path, tables: Iterable[CueTable]) -> int:
    """Write tables as one file, all or nothing; returns the number of traces.

    Raises
    ------
    InputError
        When the file cannot be written.
    """
    import pyarrow.parquet as pq

    count = 0
    with (
        replacing(path) as file,
        pq.ParquetWriter(file, schema(), compression="zstd", write_page_checksum=True) as writer,
    ):
        for table in tables:
            for first in range(0, len(table), ROWS):
                part = table.take(np.arange(first, min(first + ROWS, len(table))))
                writer.write_batch(_batch(part))
            count += len(table)
    return count


def _batch(table: CueTable) -> Any:
    import pyarrow as pa

    def known(values: NDArray[Any], kind: Any, unknown: NDArray[np.bool_]) -> Any:
        return pa.array(values, type=kind, mask=unknown)

    def label(values: NDArray[np.int8]) -> Any:
        return known(values == 1, pa.bool_(), values == UNKNOWN)

    looks = table.looks
    n = table.n_cues
    nothing = np.zeros(n, dtype=np.int32)
    repeats = nothing + UNKNOWN if looks is None else looks.repeats
    lengths = nothing + UNKNOWN if looks is None else looks.tokens
    confidences = np.full(n, np.nan, dtype=np.float32) if looks is None else looks.confidences
    wanted = schema()
    cue_type = wanted.field("cues").type.value_type
    cues = pa.StructArray.from_arrays(
        [
            pa.array(table.positions, type=pa.int64()),
            pa.array(table.scores, type=pa.float32()),
            label(table.correct),
            label(table.agrees),
            known(repeats, pa.int32(), repeats == UNKNOWN),
            known(confidences, pa.float32(), np.isnan(confidences)),
            known(lengths, pa.int32(), lengths == UNKNOWN),
        ],
        fields=list(cue_type),
    )
    levels = table.strata.get("level", [None] * len(table))
    columns = [
        pa.array(list(table.trace_ids), type=pa.string()),
        pa.array(list(table.groups), type=pa.string()),
        pa.array(table.tokens, type=pa.int64()),
        label(table.full_correct),
        pa.ListArray.from_arrays(
            pa.array(table.offsets, type=pa.int32()), cues, type=wanted.field("cues").type
        ),
        pa.array([None if level is None else int(level) for level in levels], type=pa.int32()),
        pa.array(table.strata.get("category", [None] * len(table)), type=pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=wanted)


def _open(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file, page_checksum_verification=True)
    except OSError as problem:
        reason = problem.strerror or str(problem).splitlines()[0]
        raise InputError(f"{file}: cannot be read: {reason}.") from None
    except pa.ArrowException as problem:
        reason = str(problem).splitlines()[0]
        raise InputError(f"{file}: not a whole Parquet file ({reason}); {_REMEDY}.") from None


def _batches(file: Path) -> Iterator[Any]:
    import pyarrow as pa

    source = _open(file)
    wanted, found = schema(), source.schema_arrow
    names = [field.name for field in wanted if field.name in found.names]
    for field in wanted:
        if field.name not in names and field.name not in ("level", "category"):
            raise InputError(f"{file}: column {field.name!r} is missing; {_REMEDY}.")
    with source:
        try:
            yield from source.iter_batches(batch_size=ROWS, columns=names)
        except (pa.ArrowException, OSError) as problem:
            reason = str(problem).splitlines()[0]
            raise InputError(f"{file}: is damaged ({reason}); write it again.") from None


def _table(file: Path, first: int, batch: Any) -> CueTable:
    """Check a batch and turn it into columns; `first` is the file's row where it begins."""
    import pyarrow as pa

    n = batch.num_rows
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    cues = columns["cues"]
    kind = cues.type
    if not ((pa.types.is_list(kind) or pa.types.is_large_list(kind))
            and pa.types.is_struct(kind.value_type)):  # fmt: skip
        raise InputError(f"{file}: column 'cues' is {kind}, not a list of structs; {_REMEDY}.")
    _no_null(file, first, "cues", cues)
    offsets = cues.offsets.to_numpy().astype(np.int64)
    inner = cues.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    offsets = offsets - offsets[0]
    rows = np.repeat(np.arange(n, dtype=np.int64), np.diff(offsets))

    def refuse(at: NDArray[np.bool_], name: str, why: str) -> None:
        if at.any():
            cue = int(np.flatnonzero(at)[0])
            row = int(rows[cue])
            place = f"row {first + row}: cues[{cue - int(offsets[row])}].{name}"
            raise InputError(f"{file}: {place} {why}.")

    def of_cues(name: str) -> Any:
        if inner.type.get_field_index(name) < 0:
            if name in _LOOKS:
                return pa.nulls(len(inner))
            raise InputError(f"{file}: field 'cues.{name}' is missing; {_REMEDY}.")
        return inner.field(inner.type.get_field_index(name))

    refuse(np.asarray(inner.is_null()), "position", "is missing: the cue is null")
    for name in ("position", "score"):
        refuse(np.asarray(of_cues(name).is_null()), name, "is null")
    tokens = _numbers(file, "tokens", columns["tokens"], pa.int64(), first)
    positions = _numbers(file, "cues.position", of_cues("position"), pa.int64())
    scores = _numbers(file, "cues.score", of_cues("score"), pa.float64())
    with np.errstate(over="ignore"):
        narrow = scores.astype(np.float32)
    refuse(~np.isfinite(narrow), "score", "is not finite as float32; drop the trace")
    if (tokens < 0).any():
        row = int(np.flatnonzero(tokens < 0)[0])
        raise InputError(f"{file}: row {first + row}: tokens is negative.")
    refuse(positions < 0, "position", "is negative")
    later = np.zeros(len(rows), dtype=np.bool_)
    later[1:] = (rows[1:] == rows[:-1]) & (positions[1:] <= positions[:-1])
    refuse(later, "position", "does not rise; sort the cues, one per position")
    refuse(positions > tokens[rows], "position", "lies beyond the trace's tokens")
    names = {name: _text(file, first, name, columns[name]) for name in ("trace_id", "group")}
    labels = {name: _labels(file, f"cues.{name}", of_cues(name)) for name in _LABELS}
    confidences = _optional(file, "confidence", of_cues("confidence"), pa.float32(), np.nan)
    refuse((confidences < 0) | (confidences > 1), "confidence", "is not in 0 to 1")
    repeats, lengths = (
        _optional(file, name, of_cues(name), pa.int32(), UNKNOWN)
        for name in ("repeats", "answer_tokens")
    )
    known = (repeats != UNKNOWN) | (lengths != UNKNOWN) | ~np.isnan(confidences)
    return CueTable(
        trace_ids=names["trace_id"],
        groups=names["group"],
        tokens=tokens,
        full_correct=_labels(file, "full_correct", columns["full_correct"]),
        offsets=offsets,
        positions=positions,
        scores=narrow,
        correct=labels["correct"],
        agrees=labels["agrees"],
        looks=Looks(repeats, confidences, lengths) if known.any() else None,
        strata={
            name: [None if value is None else str(value) for value in columns[name].to_pylist()]
            for name in ("level", "category")
            if name in columns and columns[name].null_count < n
        },
    )


def _cast(file: Path, name: str, values: Any, kind: Any) -> Any:
    import pyarrow as pa

    try:
        return values.cast(kind)
    except (pa.ArrowException, NotImplementedError):
        raise InputError(f"{file}: {name} is {values.type}, not {kind}; {_REMEDY}.") from None


def _no_null(file: Path, first: int, name: str, values: Any) -> None:
    if values.null_count:
        row = int(np.flatnonzero(np.asarray(values.is_null()))[0])
        raise InputError(f"{file}: row {first + row}: {name} is null; every trace needs it.")


def _numbers(file: Path, name: str, values: Any, kind: Any, first: int = 0) -> NDArray[Any]:
    _no_null(file, first, name, values)
    return np.array(_cast(file, name, values, kind).to_numpy(zero_copy_only=False))


def _optional(file: Path, name: str, values: Any, kind: Any, unknown: float) -> NDArray[Any]:
    import pyarrow.compute as pc

    filled = pc.fill_null(_cast(file, f"cues.{name}", values, kind), unknown)
    found = np.array(filled.to_numpy(zero_copy_only=False))
    if kind == "int32" and (found < UNKNOWN).any():
        raise InputError(f"{file}: cues.{name} is negative; {_REMEDY}.")
    return found


def _labels(file: Path, name: str, values: Any) -> NDArray[np.int8]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_boolean(values.type) or pa.types.is_null(values.type)):
        raise InputError(f"{file}: {name} is {values.type}, not bool; {_REMEDY}.")
    numbers = pc.fill_null(values.cast(pa.bool_()).cast(pa.int8()), UNKNOWN)
    return np.array(numbers.to_numpy(zero_copy_only=False), dtype=np.int8)


def _text(file: Path, first: int, name: str, values: Any) -> Strings:
    import pyarrow as pa

    _no_null(file, first, name, values)
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
            or pa.types.is_dictionary(values.type)):  # fmt: skip
        raise InputError(f"{file}: {name} is {values.type}, not string; {_REMEDY}.")
    large = _cast(file, name, values, pa.large_string())
    _, ends, data = large.buffers()
    offsets = np.frombuffer(ends, dtype=np.int64)[large.offset : large.offset + len(large) + 1]
    low = int(offsets[0])
    letters = np.frombuffer(data or b"", dtype=np.uint8)[low : int(offsets[-1])].copy()
    empty = np.flatnonzero(np.diff(offsets) == 0)
    if empty.size:
        raise InputError(f"{file}: row {first + int(empty[0])}: {name} is empty.")
    return Strings(letters, offsets - low)
