"""Audits: requests that were marked where they would have stopped, and thought on to their end.

One JSON object a line::

    {"request_id": "cmpl-1", "time": "2026-03-01T12:00:00Z", "artifact": "0123456789abcdef",
     "alpha": 0.05, "loss_name": "disagree", "marked": true, "loss": 1, "score": 3.25, "cues": 7,
     "tokens": 812, "top_score": 4.5}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, BeforeValidator, Field, StringConstraints, model_validator

from calibration.evaluate import NEVER
from calibration.files import replacing
from calibration.table import CueTable
from probes.errors import InputError
from probes.validation import Finite, Flag, Record, parse, read_json


def _written(value: object) -> object:
    if not isinstance(value, str | datetime):
        raise ValueError('must be a text such as "2026-03-01T12:00:00Z"')
    return value


Share = Annotated[float, Field(strict=True, gt=0.0, lt=1.0)]
ArtifactName = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{16}$")]
Moment = Annotated[AwareDatetime, BeforeValidator(_written)]
Whole = Annotated[int, Field(strict=True, ge=0, le=2**53)]
LossName = Literal["disagree", "wrong", "harm"]


class Audit(Record):
    """One audited request.

    Attributes
    ----------
    request_id
        Any text that no other request has.
    time
        When it was finished, with its zone.
    artifact
        The first 16 digits of the SHA-256 of the artifact's manifest.json, as the plugin's
        decisions name it.
    alpha
        The share of bad stops that this request tolerated.
    loss_name
        What a bad stop is: the loss of the artifact. For "disagree" no label is needed.
    marked
        Whether it would have been stopped.
    loss
        1 if the answer forced at the mark is bad (for "disagree": not the full answer), else 0. A
        request without a mark has loss 0, and counts: the promise is about all requests.
    score
        At the mark; None without one.
    cues, tokens
        Of the whole thinking, past the mark.
    top_score
        The highest score of the whole thinking; None without a cue.

    """

    request_id: Annotated[str, StringConstraints(strict=True, min_length=1, max_length=1024)]
    time: Moment
    artifact: ArtifactName
    alpha: Share
    loss_name: LossName
    marked: Flag
    loss: Annotated[int, Field(strict=True, ge=0, le=1)]
    score: Finite | None
    cues: Whole
    tokens: Whole
    top_score: Finite | None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.marked != (self.score is not None):
            raise ValueError("score: must be a number exactly where marked is true, else null")
        if self.loss and not self.marked:
            raise ValueError("loss: 1 without a mark; what would not stop cannot stop badly")
        if (self.cues > 0) != (self.top_score is not None):
            raise ValueError("top_score: must be a number exactly where there are cues, else null")
        if self.marked and not self.cues:
            raise ValueError("cues: 0, but there is a mark, and marks are set at cues")
        if self.score is not None and self.top_score is not None and self.top_score < self.score:
            raise ValueError(f"top_score: {self.top_score} is below the score at the mark")
        return self


_REMEDY = "Write one whole audit per line (docs/monitoring.md), or delete the line"


def read_audits(path: str | Path) -> Iterator[Audit]:
    """Read a log of audits one by one; blank lines are skipped.

    Raises
    ------
    InputError
        Naming file, line and field, and the remedy: at the first line that is not an audit, at a
        request_id that was there before, or at the end of a file without any audit.

    """
    path = Path(path)
    lines: dict[str, int] = {}
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                if raw.strip():
                    audit = _audit(f"{path}:{number}", raw, first=number == 1)
                    before = lines.setdefault(audit.request_id, number)
                    if before != number:
                        raise InputError(
                            f"{path}:{number}: request_id {audit.request_id!r} was already used in "
                            f"line {before}; one request is one audit. Delete one of the two."
                        )
                    yield audit
    except OSError as problem:
        raise InputError(f"{path}: cannot be read: {problem.strerror or problem}.") from None
    if not lines:
        raise InputError(f"{path}: holds no audit; write one JSON object per line.")


def _audit(where: str, raw: bytes, first: bool) -> Audit:
    try:
        fields = read_json(raw.decode("utf-8-sig" if first else "utf-8"))
    except UnicodeDecodeError:
        raise InputError(f"{where}: not UTF-8 text; save the file as UTF-8.") from None
    except ValueError as problem:
        cut = "" if raw.endswith(b"\n") else " The last line may have been cut off."
        raise InputError(f"{where}: not JSON ({problem}). {_REMEDY}.{cut}") from None
    return parse(Audit, fields, where, f"{_REMEDY}.")


def write_audits(path: str | Path, audits: Iterable[Audit]) -> int:
    """Write a log, all or nothing; return the number of audits.

    Raises
    ------
    InputError
        When the file cannot be written.

    """
    count = 0
    with replacing(path) as file:
        for audit in audits:
            file.write(audit.model_dump_json().encode() + b"\n")
            count += 1
    return count


def audits_of(
    table: CueTable,
    bad: NDArray[np.bool_],
    stops: NDArray[np.int64],
    *,
    artifact: str,
    alpha: float,
    loss_name: str,
    begin: datetime,
    request_ids: Sequence[str] | None = None,
) -> Iterator[Audit]:
    """Turn recorded traces into the audits that they would have been.

    Parameters
    ----------
    table
        Full traces: an audit is never cut short.
    bad
        bool[n_cues], the loss of a stop at each cue.
    stops
        int64[n_traces], where the rule would stop each trace; -1 for never.
    artifact, alpha, loss_name
        As in :class:`Audit`.
    begin
        Time of the first; the others follow one second apart.
    request_ids
        One per trace; the trace_ids by default.

    """
    names = table.trace_ids if request_ids is None else request_ids
    counts = np.diff(table.offsets)
    for row, stop in enumerate(stops.tolist()):
        marked, scores = stop != NEVER, table.scores[table.offsets[row] : table.offsets[row + 1]]
        yield Audit.model_validate(
            {
                "request_id": names[row],
                "time": begin + timedelta(seconds=row),
                "artifact": artifact,
                "alpha": alpha,
                "loss_name": loss_name,
                "marked": marked,
                "loss": int(marked and bad[stop]),
                "score": _decimal(table.scores[stop]) if marked else None,
                "cues": int(counts[row]),
                "tokens": int(table.tokens[row]),
                "top_score": _decimal(scores.max()) if scores.size else None,
            }
        )


def _decimal(score: np.float32) -> float:
    # str of a float32 is its shortest exact form; float64 would print 17 digits.
    return float(str(np.float32(score)))
