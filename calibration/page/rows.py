"""Rows of other rules: the JSON that comparisons and baselines write, read strictly."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from calibration.evaluate import Outcome
from calibration.report import Evaluation
from probes.errors import InputError
from probes.validation import Positive, Text, parse, read_json

MAX_BYTES = 16 << 20

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Tokens = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Guarantee = Literal["risk", "tokens", "none"]


class _Lenient(BaseModel):
    """Files of other commands may tell more than is shown here."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _Point(_Lenient):
    accuracy: Share | None
    tokens: Tokens


class _Row(_Point):
    rule: Text
    title: Text | None = None
    artifact: Text | None = None
    guarantee: Guarantee
    extra_tokens: Tokens | None = None
    bad_stops: Tokens | None = None
    bad_stop_share: Share | None = None
    bad_stop_interval: tuple[Share, Share] | None = None
    stopped_share: Share | None = None
    wall_s: Tokens | None = None

    @model_validator(mode="before")
    @classmethod
    def _empty_interval(cls, data: Any) -> Any:
        # Randomised rules have no interval; `stopper evaluate` spells that as an empty list.
        if isinstance(data, dict) and data.get("bad_stop_interval") == []:
            return {**data, "bad_stop_interval": None}
        return data


class _LeftOut(_Lenient):
    rule: Text
    reason: Text


class _File(_Lenient):
    alpha: Annotated[float, Field(gt=0.0, lt=1.0)]
    loss: Literal["disagree", "wrong", "harm"]
    n_test: Positive
    rows: tuple[_Row, ...]
    full: _Point | None = None
    left_out: tuple[_LeftOut, ...] = ()
    oracle: _Point | None = None

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.rows:
            raise ValueError("rows: is empty")
        return self


@dataclass(frozen=True)
class Rival:
    """One rule on one data set, as a row and as a point.

    Attributes
    ----------
    rule
        Its name.
    guarantee
        "risk": alpha is promised. "tokens": mean tokens are. "none".
    accuracy, tokens
        As measured; tokens per request with everything that the rule itself generates.
    extra_tokens
        Of those, what was spent on looking (trial answers, re-read prompts); None unknown.
    bad_stops, bad_stop_share, bad_stop_interval, stopped_share
        As in :class:`calibration.evaluate.Outcome`; None unknown.
    wall_s
        Seconds that it took; None where it was replayed.
    kind
        "ours", "full", "oracle" or "rival".
    n_test
        Requests measured on.
    full_tokens
        Mean tokens of the full traces of the same requests; None unknown.
    source
        The file's name; "" for the replay on the test traces.
    """

    rule: str
    guarantee: str
    accuracy: float | None
    tokens: float
    extra_tokens: float | None
    bad_stops: float | None
    bad_stop_share: float | None
    bad_stop_interval: tuple[float, float] | None
    stopped_share: float | None
    wall_s: float | None
    kind: str
    n_test: int
    full_tokens: float | None
    source: str = ""


def replayed(evaluation: Evaluation) -> list[Rival]:
    """Give the rules that every evaluation replays."""

    def row(outcome: Outcome | None, kind: str, guarantee: str) -> list[Rival]:
        if outcome is None:
            return []
        certain = kind in ("full", "oracle")  # their zeros are no estimates
        return [
            Rival(
                rule=outcome.rule,
                guarantee=guarantee,
                accuracy=outcome.accuracy,
                tokens=outcome.tokens + outcome.extra_tokens,
                extra_tokens=outcome.extra_tokens,
                bad_stops=outcome.bad_stops,
                bad_stop_share=outcome.bad_stop_share,
                bad_stop_interval=None if certain else outcome.bad_stop_interval,
                stopped_share=outcome.stopped_share,
                wall_s=None,
                kind=kind,
                n_test=evaluation.n_test,
                full_tokens=evaluation.full.tokens,
            )
        ]

    return [
        *row(evaluation.full, "full", "none"),
        *row(evaluation.stopped, "ours", evaluation.guarantee),
        *row(evaluation.budget, "rival", "tokens"),
        *row(evaluation.lynx, "rival", "none"),
        *row(evaluation.mapie, "rival", "none"),
        *row(evaluation.oracle, "oracle", "none"),
    ]


def read_rows(path: Path, alpha: float, loss: str, command: str) -> tuple[list[Rival], list[str]]:
    """Read the rows of another command, and remarks about what it left out.

    Parameters
    ----------
    path
        A JSON file.
    alpha, loss
        Of the report; rows of another alpha or loss would be compared unfairly.
    command
        That writes such files, for errors.

    Raises
    ------
    InputError
        When the file cannot be read, is not of this form, or is of another alpha or loss.
    """
    remedy = f"Write it again with `stopper {command} --json {path.name}`"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES} bytes. {remedy}")
        data = read_json(path.read_bytes())
    except OSError as problem:
        raise InputError(f"{path}: cannot be read: {problem.strerror or problem}.") from None
    except ValueError as problem:
        raise InputError(f"{path}: not JSON ({problem}). {remedy}") from None
    found = parse(_File, data, str(path), remedy)
    if found.loss != loss:
        raise InputError(
            f"{path}: loss is '{found.loss}', the artifact's is '{loss}': the rows count other "
            f"stops as bad. {remedy} for loss '{loss}'"
        )
    if abs(found.alpha - alpha) > 1e-9:
        raise InputError(
            f"{path}: alpha is {found.alpha:g}, the report's is {alpha:g}. Give --alpha "
            f"{found.alpha:g} first, or write the file again at {alpha:g}"
        )
    artifacts = {row.artifact for row in found.rows}
    rows = [
        Rival(
            rule=_name(row, artifacts),
            guarantee=row.guarantee,
            accuracy=row.accuracy,
            tokens=row.tokens + (row.extra_tokens or 0.0),
            extra_tokens=row.extra_tokens,
            bad_stops=row.bad_stops,
            bad_stop_share=row.bad_stop_share,
            bad_stop_interval=row.bad_stop_interval,
            stopped_share=row.stopped_share,
            wall_s=row.wall_s,
            kind="rival",
            n_test=found.n_test,
            full_tokens=None if found.full is None else found.full.tokens,
            source=path.name,
        )
        for row in found.rows
    ]
    return rows, [f"{path.name}: '{x.rule}' was left out: {x.reason}" for x in found.left_out]


def _name(row: _Row, artifacts: Collection[str | None]) -> str:
    """Name a row; its artifact tells rows apart only where there is more than one."""
    name = row.title or row.rule
    if row.artifact is None or len(artifacts) < 2:
        return name
    return f"{name} ({Path(row.artifact).name})"


def merged(own: Sequence[Rival], others: Sequence[Rival]) -> list[Rival]:
    """Join rows; the same rule with the same figures on as many requests is shown once."""
    kept = list(own)
    for row in others:
        same = [
            known
            for known in kept
            if known.n_test == row.n_test
            and known.bad_stops == row.bad_stops
            and known.accuracy == row.accuracy
            and abs(known.tokens - row.tokens) < 1e-6
            and known.guarantee == row.guarantee
            and (known.kind == "ours" or _stem(known) == _stem(row))
        ]
        if not same:
            kept.append(row)
    return kept


def _stem(rival: Rival) -> str:
    """Give what the names "LYNX per cue" and "lynx" share."""
    return rival.rule.lower().split(" ")[0]
