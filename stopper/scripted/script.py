"""The script: what the engine thinks and answers, where it pauses, how sure it is there."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, model_validator

from probes.validation import Finite, Flag, Record, Text, parse, read_json
from stopper.errors import InputError
from stopper.scripted.faults import Fault
from stopper.scripted.tokens import END_OF_THINKING, THINK

Milliseconds = Annotated[Finite, Field(ge=0.0, le=600_000.0)]
Share = Annotated[Finite, Field(gt=0.0, lt=1.0)]
SpecialId = Annotated[int, Field(strict=True, ge=1, lt=1 << 40)]


class Piece(Record):
    """A stretch of thinking; with `cue`, the cue is its end.

    Attributes
    ----------
    text
        What is emitted.
    cue
        The cue's name, such as "wait".
    score
        Logit at the cue.
    hidden_state
        At the cue; sent to a sidecar in the score's place.
    forced_answer
        What the model answers if its thinking is ended here; what held at the cue before if None.

    """

    text: Annotated[Text, Field(min_length=1)]
    cue: Annotated[Text, Field(min_length=1)] | None = None
    score: Finite | None = None
    hidden_state: Annotated[tuple[Finite, ...], Field(min_length=1)] | None = None
    forced_answer: Text | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if THINK in self.text or END_OF_THINKING in self.text:
            raise ValueError(f"text: {THINK} and {END_OF_THINKING} are put in by the engine")
        if (self.cue is None) != (self.score is None):
            raise ValueError("a cue needs a score, and a score a cue")
        if self.cue is None and (self.hidden_state or self.forced_answer is not None):
            raise ValueError("hidden_state and forced_answer belong to a cue")
        return self


class Trace(Record):
    """One course of thought.

    Attributes
    ----------
    name
        Unique in the script.
    pieces
        The thinking.
    answer
        After the full thinking.
    early_answer
        If the thinking is ended before the first cue that has an answer.
    match
        For prompts that contain this text; None: for all others, in turn.
    token_delay_ms
        Instead of the script's.
    fault
        Met by every request for this trace.

    """

    name: Annotated[Text, Field(min_length=1)]
    pieces: Annotated[tuple[Piece, ...], Field(min_length=1)]
    answer: Text
    early_answer: Text = "I do not know."
    match: Annotated[Text, Field(min_length=1)] | None = None
    token_delay_ms: Milliseconds | None = None
    fault: Fault | None = None

    @property
    def thinking(self) -> str:
        """The whole thinking."""
        return "".join(piece.text for piece in self.pieces)

    def forced_answer(self, thinking: str) -> str:
        """Return the answer when the thinking ends after this much of it."""
        answer, length = self.early_answer, 0
        for piece in self.pieces:
            length += len(piece.text)
            if length > len(thinking):
                return answer
            if piece.forced_answer is not None:
                answer = piece.forced_answer
        return self.answer


class Threshold(Record):
    """Stop where the score exceeds `threshold`, for requests that tolerate `alpha`."""

    alpha: Share
    threshold: Finite


class Script(Record):
    """All that a scripted engine knows.

    Attributes
    ----------
    model
        Name it is served under.
    stopper
        Whether the engine has a stopper; without one it thinks every trace to its end.
    alpha
        The server's default; must be reached by `thresholds`.
    thresholds
        A request takes that of the largest alpha that is not above its own; below the smallest it
        is not stopped (too_few_calibration_traces).
    fixed_threshold
        For requests in mode "fixed".
    artifact
        Name that decisions give the artifact.
    answer_prompt
        Text forced after the end of thinking.
    token_delay_ms, first_token_delay_ms
        Pauses before each token, and once before the first.
    think_id, end_of_thinking_id
        Token ids of the two marks.
    max_model_len
        As /v1/models gives it; prompt and output together.
    api_key
        Asked of every request to /v1 as a bearer token.

    """

    model: Annotated[Text, Field(min_length=1)] = "scripted"
    stopper: Flag = True
    alpha: Share = 0.1
    thresholds: Annotated[tuple[Threshold, ...], Field(min_length=1)] = (
        Threshold(alpha=0.1, threshold=0.0),
    )
    fixed_threshold: Finite | None = None
    artifact: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")] = "5c21970000000000"
    answer_prompt: Text = ""
    token_delay_ms: Milliseconds = 0.0
    first_token_delay_ms: Milliseconds = 0.0
    think_id: SpecialId = 1
    end_of_thinking_id: SpecialId = 2
    max_model_len: Annotated[int, Field(strict=True, ge=16)] = 131_072
    api_key: Annotated[Text, Field(min_length=1)] | None = None
    traces: Annotated[tuple[Trace, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [trace.name for trace in self.traces]
        if len(set(names)) < len(names):
            raise ValueError("traces: two have the same name")
        if self.think_id == self.end_of_thinking_id:
            raise ValueError("think_id and end_of_thinking_id are the same")
        rows = sorted(self.thresholds, key=lambda row: row.alpha)
        for lower, upper in pairwise(rows):
            if lower.alpha == upper.alpha:
                raise ValueError(f"thresholds: alpha {lower.alpha} is there twice")
            if lower.threshold < upper.threshold:
                raise ValueError(
                    f"thresholds: alpha {upper.alpha} tolerates more than {lower.alpha}, so its "
                    "threshold cannot be higher"
                )
        if self.threshold(self.alpha) is None:
            raise ValueError(f"alpha: {self.alpha} is below every alpha of thresholds")
        return self

    def threshold(self, alpha: float) -> float | None:
        """Return the threshold for a request's alpha; None where it is below all."""
        reached = [row for row in self.thresholds if row.alpha <= alpha]
        return max(reached, key=lambda row: row.alpha).threshold if reached else None


def read_script(path: Path) -> Script:
    """Read a script, TOML or (by the suffix .json) JSON.

    Raises
    ------
    InputError
        If the file cannot be read; the message names the file, each wrong field and the remedy.

    """
    try:
        data = path.read_bytes()
        raw: Any = read_json(data) if path.suffix == ".json" else tomllib.loads(data.decode())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:  # not UTF-8, not TOML, not JSON
        raise InputError(f"{path}: {error}. A script is TOML, or JSON in a .json file") from None
    return _checked(raw, str(path))


def default_text() -> str:
    """Return the built-in script, as TOML."""
    return files("stopper.scripted").joinpath("default.toml").read_text(encoding="utf-8")


def default_script() -> Script:
    """Return the built-in script: three short problems without delays."""
    return _checked(tomllib.loads(default_text()), "the built-in script")


def _checked(raw: Any, source: str) -> Script:
    return parse(Script, raw, source, "docs/scripted.md describes every field")
