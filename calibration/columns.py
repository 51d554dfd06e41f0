"""A part of the trace store as bytes: a parquet table and the hidden states of its cues.

pyarrow is imported on first use, so that a process which only names the store does not pay for it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as dump_tensors

from calibration.records import CueRecord, TraceRecord
from probes.errors import InputError

HIDDEN_SHA256 = b"stopper.hidden_sha256"

_ADDED = frozenset({"category"})  # columns that older stores lack; null there


def schema(looks: bool = True) -> Any:
    """Return the pyarrow schema of one row per trace (documented in ``docs/formats.md``).

    `looks` False gives that of stores older than ``forced_logprob``, which are still read.
    """
    import pyarrow as pa

    ids = pa.list_(pa.int32())
    cue = pa.struct(
        [
            pa.field("position", pa.int32(), nullable=False),
            pa.field("label", pa.string(), nullable=False),
            pa.field("forced_ids", ids, nullable=False),
            pa.field("forced_answer", pa.string()),
            pa.field("correct", pa.bool_()),
            pa.field("agrees", pa.bool_()),
            *([pa.field("forced_logprob", pa.float64())] if looks else []),
        ]
    )
    return pa.schema(
        [
            pa.field("trace_id", pa.string(), nullable=False),
            pa.field("group", pa.string(), nullable=False),
            pa.field("prompt_ids", ids, nullable=False),
            pa.field("output_ids", ids, nullable=False),
            pa.field("thinking_tokens", pa.int32(), nullable=False),
            pa.field("text", pa.string(), nullable=False),
            pa.field("answer", pa.string()),
            pa.field("gold", pa.string()),
            pa.field("full_correct", pa.bool_()),
            pa.field("level", pa.int32()),
            pa.field("finish_reason", pa.string(), nullable=False),
            pa.field("cues", pa.list_(cue), nullable=False),
            pa.field("category", pa.string()),
        ]
    )


def encode(records: Sequence[TraceRecord]) -> tuple[bytes, bytes]:
    """Return the (parquet, safetensors) bytes of a part.

    Raises
    ------
    InputError
        If a field has a type that the schema refuses.

    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    hidden = np.ascontiguousarray(np.concatenate([record.hidden for record in records]))
    tensors = dump_tensors({"hidden": hidden})
    names = [item.name for item in fields(TraceRecord) if item.name != "hidden"]
    rows = []
    for record in records:
        row = {name: getattr(record, name) for name in names}
        row["cues"] = [
            {item.name: getattr(cue, item.name) for item in fields(CueRecord)}
            for cue in record.cues
        ]
        rows.append(row)
    digest = hashlib.sha256(tensors).hexdigest().encode()
    try:
        table = pa.Table.from_pylist(rows, schema=schema().with_metadata({HIDDEN_SHA256: digest}))
        table.validate(full=True)
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as problem:
        ids = ", ".join(record.trace_id for record in records[:3])
        raise InputError(
            f"traces {ids}...: a field has the wrong type or range ({problem})"
        ) from None
    return sink.getvalue(), tensors


def open_table(path: str) -> tuple[Any, str]:
    """Open a part's parquet file and check its schema.

    Returns
    -------
    pyarrow.parquet.ParquetFile, str
        The file, and the SHA-256 that its safetensors must have.

    Raises
    ------
    ValueError
        If it is damaged or has other columns.

    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        found = file.schema_arrow
    except (pa.ArrowException, OSError) as problem:
        raise ValueError(f"not a whole parquet file ({_first_line(problem)})") from None
    wanted, older = schema(), schema(looks=False)
    for column in wanted:
        index = found.get_field_index(column.name)
        if index < 0 and column.name in _ADDED:
            continue
        if index < 0:
            raise ValueError(f"column {column.name!r} is missing")
        if found.field(index).type not in (column.type, older.field(column.name).type):
            raise ValueError(
                f"column {column.name!r} is {found.field(index).type}, not {column.type}"
            )
    extra = sorted(set(found.names) - set(wanted.names))
    if extra:
        raise ValueError(f"unknown columns {extra}")
    return file, (found.metadata or {}).get(HIDDEN_SHA256, b"").decode("ascii", "replace")


def check_hidden(path: str, width: int) -> None:
    """Check a part's hidden states by header and length alone, without reading them.

    Raises
    ------
    ValueError
        If the file is missing, truncated or of another shape.

    """
    try:
        with safe_open(path, framework="numpy") as file:
            shape = file.get_slice("hidden").get_shape()
    except (SafetensorError, OSError) as problem:
        raise ValueError(f"its safetensors is not whole ({_first_line(problem)})") from None
    if len(shape) != 2 or shape[1] != width:
        raise ValueError(f"hidden is {list(shape)}, not [n, {width}]")


def read_column(file: Any, name: str) -> list[Any]:
    """Read one column of an open part.

    Raises
    ------
    ValueError
        If its pages are damaged.

    """
    import pyarrow as pa

    try:
        values: list[Any] = file.read([name]).column(0).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as problem:
        raise ValueError(f"column {name!r} is damaged ({_first_line(problem)})") from None
    return values


def decode(file: Any, tensors: bytes, sha256: str, width: int) -> list[TraceRecord]:
    """Return the records of an open part.

    Raises
    ------
    ValueError
        If the table or the hidden states are damaged, or do not belong together.

    """
    import pyarrow as pa

    hidden = _hidden(tensors, sha256, width)
    try:
        rows = file.read().to_pylist()
    except (pa.ArrowException, OSError, ValueError) as problem:
        raise ValueError(f"the table is damaged ({_first_line(problem)})") from None
    count = sum(len(row["cues"] or ()) for row in rows)
    if count != len(hidden):
        raise ValueError(f"the table has {count} cues, its safetensors {len(hidden)} rows")
    required = [column.name for column in schema() if not column.nullable]
    records, start = [], 0
    for row in rows:
        for name in required:
            if row[name] is None:
                raise ValueError(f"trace {row['trace_id']!r}: {name} is missing")
        cues = [CueRecord(**cue) for cue in row.pop("cues")]
        records.append(TraceRecord(**row, cues=cues, hidden=hidden[start : start + len(cues)]))
        start += len(cues)
    return records


def _hidden(tensors: bytes, sha256: str, width: int) -> npt.NDArray[np.float32]:
    if hashlib.sha256(tensors).hexdigest() != sha256:
        raise ValueError("its safetensors is damaged or of another part (SHA-256 differs)")
    try:
        hidden = load_tensors(tensors)["hidden"]
    except (SafetensorError, KeyError) as problem:
        raise ValueError(f"its safetensors holds no hidden states ({problem})") from None
    if hidden.dtype != np.float32 or hidden.ndim != 2 or hidden.shape[1] != width:
        raise ValueError(f"hidden is {hidden.dtype} {list(hidden.shape)}, not float32 [n, {width}]")
    return np.asarray(hidden, dtype=np.float32)


def _first_line(problem: Exception) -> str:
    return str(problem).splitlines()[0] if str(problem) else type(problem).__name__
