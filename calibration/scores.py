"""Your own scores: traces as JSON Lines (here) or Parquet, read strictly and written.

One trace a line::

    {"trace_id": "a-1", "group": "a", "tokens": 812, "full_correct": true,
     "cues": [{"position": 120, "score": -1.5, "correct": false, "agrees": false}, ...]}

Every field must be there; labels that are unknown are written as null. A trace may also have
``level`` (integer) and ``category`` (string), for breakdowns; a cue ``repeats`` (integer),
``confidence`` (0 to 1) and ``answer_tokens`` (integer) of the answer forced there. Positions rise
within a trace and end at most at ``tokens``. Scores are logits (any rising function of "safe to
stop" will do: only their order counts) and are compared as float32. Other fields are left unread.

The Parquet form (:mod:`calibration.score_parquet`) has the same fields and is the one for millions
of traces. Either is read in batches; a path that is a folder, or ends in ``.parquet``, is Parquet.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from calibration import score_parquet
from calibration.files import replacing
from calibration.strings import Seen
from calibration.table import CueTable
from probes.errors import InputError
from probes.events import CueEvent, Trace

_FLOAT32_END = 2**128 - 2**103  # from here on, float32 rounds to infinity
_INT64_MAX = 2**63 - 1


def read_scores(path: str | Path) -> Iterator[Trace]:
    """Read traces one by one; memory holds one line and a hash of each identifier seen.

    Parameters
    ----------
    path
        A JSON Lines file in UTF-8; blank lines are skipped.

    Yields
    ------
    Each trace, verified.

    Raises
    ------
    InputError
        Naming file, line and field, and the remedy: at the first line that is not a trace, at a
        trace_id that was there before, or at the end of a file without any trace.
    """
    path = Path(path)
    lines, count = Seen(), 0
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                if not raw.strip():
                    continue
                where = f"{path}:{number}"
                trace = _trace(where, _parse(where, raw))
                first = lines.first(trace.trace_id, number)
                if first != number:
                    raise InputError(
                        f"{where}: trace_id {trace.trace_id!r} was already used in line {first}; "
                        "give every trace its own (rollouts of one prompt share the group)."
                    )
                count += 1
                yield trace
    except OSError as problem:
        raise InputError(f"{path}: cannot be read: {problem.strerror or problem}.") from None
    if not count:
        raise InputError(f"{path}: holds no trace; write one JSON object per line.")


def read_tables(path: str | Path) -> Iterator[CueTable]:
    """Read scores of either form in batches; a bar shows on long files.

    Raises
    ------
    InputError
        As :func:`read_scores` and :func:`calibration.score_parquet.read_tables`.
    """
    path = Path(path)
    if is_parquet(path):
        tables, total = score_parquet.read_tables(path), score_parquet.count_traces(path)
    else:
        tables, total = CueTable.batches(read_scores(path)), None
    with tqdm(desc=f"reading {path.name}", total=total, unit="trace", delay=2, leave=False) as bar:
        for table in tables:
            yield table
            bar.update(len(table))


def load_scores(path: str | Path) -> CueTable:
    """Read scores of either form into columns, about 30 bytes a cue; errors as in `read_tables`."""
    return CueTable.concatenate(read_tables(path))


def is_parquet(path: Path) -> bool:
    """Tell the form of a scores file by its name; a folder holds Parquet files."""
    return path.suffix == score_parquet.SUFFIX or path.is_dir()


def write_scores(path: str | Path, traces: CueTable | Iterable[Trace]) -> int:
    """Write traces, all or nothing: the file appears (or is replaced) when it is complete.

    The form follows the name, see :func:`is_parquet`. Scores are written with the digits that
    float32 needs, so that reading them gives the same float32 back.

    Returns
    -------
    The number of traces.

    Raises
    ------
    InputError
        When the file cannot be written.
    """
    return write_tables(
        path, [traces] if isinstance(traces, CueTable) else CueTable.batches(traces)
    )


def write_tables(path: str | Path, tables: Iterable[CueTable]) -> int:
    """Write batches of traces as :func:`write_scores` does, one in memory at a time."""
    if is_parquet(Path(path)):
        return score_parquet.write_tables(path, tables)
    count = 0
    with replacing(path) as file:
        for table in tables:
            for trace in table.traces():
                line = json.dumps(_record(trace), ensure_ascii=False) + "\n"
                file.write(line.encode("utf-8"))
            count += len(table)
    return count


def _record(trace: Trace) -> dict[str, Any]:
    return {
        "trace_id": trace.trace_id,
        "group": trace.group,
        "tokens": trace.tokens,
        "full_correct": trace.full_correct,
        "cues": [
            {
                "position": cue.position,
                # str of a float32 is its shortest exact form; float64 would print 17 digits.
                "score": float(str(np.float32(cue.score))),
                "correct": cue.correct,
                "agrees": cue.agrees,
                **_given(cue, "repeats", "confidence", "answer_tokens"),
            }
            for cue in trace.cues
        ],
        **_given(trace, "level", "category"),
    }


def _given(item: Trace | CueEvent, *names: str) -> dict[str, Any]:
    found = {name: getattr(item, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _parse(where: str, raw: bytes) -> Any:
    try:
        return json.loads(raw.decode("utf-8-sig" if where.endswith(":1") else "utf-8"))
    except UnicodeDecodeError:
        raise InputError(f"{where}: not UTF-8 text; save the file as UTF-8.") from None
    except RecursionError:
        raise InputError(f"{where}: nested too deeply; write one flat trace per line.") from None
    except ValueError as problem:  # JSONDecodeError, or an integer of thousands of digits
        ends = "" if raw.endswith(b"\n") else " The last line may have been cut off."
        raise InputError(
            f"{where}: not JSON ({problem}); write one trace object per line.{ends}"
        ) from None


def _trace(where: str, data: Any) -> Trace:
    if not isinstance(data, dict):
        raise InputError(f"{where}: is a JSON {_kind(data)}, not an object; see the format.")
    tokens = _integer(where, data, "tokens")
    cues_data = _field(where, data, "cues")
    if not isinstance(cues_data, list):
        raise _wrong(where, "cues", "a list of objects", cues_data)
    cues = []
    last = -1
    for index, item in enumerate(cues_data):
        name = f"cues[{index}]"
        if not isinstance(item, dict):
            raise _wrong(where, name, "an object", item)
        position = _integer(where, item, "position", name)
        if position == last:
            raise InputError(
                f"{where}: {name}.position repeats {position}; keep one cue per position."
            )
        if position < last:
            raise InputError(
                f"{where}: {name}.position is {position} after {last}; sort the cues by position."
            )
        if position > tokens:
            raise InputError(
                f"{where}: {name}.position is {position}, beyond the trace's tokens ({tokens}); "
                "both count thinking tokens from the start of the thinking."
            )
        last = position
        cues.append(
            CueEvent(
                position=position,
                score=_score(where, item, name),
                correct=_label(where, item, "correct", name),
                agrees=_label(where, item, "agrees", name),
                repeats=_optional_integer(where, item, "repeats", name),
                confidence=_confidence(where, item, name),
                answer_tokens=_optional_integer(where, item, "answer_tokens", name),
            )
        )
    return Trace(
        trace_id=_text(where, data, "trace_id"),
        group=_text(where, data, "group"),
        tokens=tokens,
        full_correct=_label(where, data, "full_correct"),
        cues=tuple(cues),
        level=_level(where, data),
        category=None if data.get("category") is None else _text(where, data, "category"),
    )


def _level(where: str, data: Mapping[str, Any]) -> int | None:
    value = data.get("level")
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise _wrong(where, "level", "a whole number or null", value)
    return value


def _optional_integer(where: str, data: Mapping[str, Any], name: str, parent: str) -> int | None:
    value = None if data.get(name) is None else _integer(where, data, name, parent)
    if value is not None and value >= 2**31:
        raise InputError(f"{where}: {_path(parent, name)} is {value}; it must fit 32 bits.")
    return value


def _confidence(where: str, data: Mapping[str, Any], parent: str) -> float | None:
    value = data.get("confidence")
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1:
        raise _wrong(where, _path(parent, "confidence"), "a number from 0 to 1", value)
    return float(value)


def _field(where: str, data: Mapping[str, Any], name: str, parent: str = "") -> Any:
    try:
        return data[name]
    except KeyError:
        label = name in ("full_correct", "correct", "agrees")
        remedy = "write null where it is unknown" if label else "every trace needs it"
        raise InputError(f"{where}: {_path(parent, name)} is missing; {remedy}.") from None


def _text(where: str, data: Mapping[str, Any], name: str) -> str:
    value = _field(where, data, name)
    if not isinstance(value, str) or not value:
        raise _wrong(where, name, "a string that is not empty", value)
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise _wrong(where, name, "valid Unicode (it holds half of a surrogate pair)", value)
    return value


def _integer(where: str, data: Mapping[str, Any], name: str, parent: str = "") -> int:
    value = _field(where, data, name, parent)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(where, _path(parent, name), "a whole number of tokens", value)
    if not 0 <= value <= _INT64_MAX:
        raise InputError(
            f"{where}: {_path(parent, name)} is {_shown(value)}; token counts are not negative "
            "and fit 64 bits."
        )
    return value


def _label(where: str, data: Mapping[str, Any], name: str, parent: str = "") -> bool | None:
    value = _field(where, data, name, parent)
    if value is not None and not isinstance(value, bool):
        raise _wrong(where, _path(parent, name), "true, false or null", value)
    return value


def _score(where: str, data: Mapping[str, Any], parent: str) -> float:
    value = _field(where, data, "score", parent)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _wrong(where, _path(parent, "score"), "a number", value)
    if not -_FLOAT32_END < value < _FLOAT32_END:  # false for NaN too; exact for any integer
        raise InputError(
            f"{where}: {_path(parent, 'score')} is {_shown(value)}; scores must be finite and fit "
            "float32. Drop the trace, or mend what scored it."
        )
    return float(np.float32(value))


def _path(parent: str, name: str) -> str:
    return f"{parent}.{name}" if parent else name


def _wrong(where: str, path: str, wanted: str, value: Any) -> InputError:
    return InputError(f"{where}: {path} must be {wanted}, not {_kind(value)} {_shown(value)}.")


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value)
    except ValueError:  # an integer too long to print
        return "a number of thousands of digits"
    return text if len(text) <= 40 else text[:37] + "..."


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {bool: "boolean", int: "number", float: "number", str: "string", list: "list"}
    return kinds.get(type(value), "object")
