"""One collected trace, as the collector makes it and the trace store keeps it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from pydantic import Field, JsonValue, ValidationInfo, field_validator

from calibration.comparers import AUTO, Comparer
from probes.errors import InputError
from probes.events import CueEvent, Trace
from probes.provenance import Closing, ModelFingerprint
from probes.validation import Positive, Record, Text


@dataclass(frozen=True, slots=True)
class CueRecord:
    """A cue in a collected trace with the answer that was forced there.

    Attributes
    ----------
    position
        Thinking tokens up to and including the cue's last token.
    label
        The cue's name, for example its word.
    forced_ids
        Token ids generated after the thinking was closed here.
    forced_answer
        The answer extracted from them; None if there is none.
    correct, agrees
        Whether it equals the gold answer, the full trace's answer; None where unknown.
    forced_logprob
        Mean natural log-probability of ``forced_ids``; None where not collected.

    """

    position: int
    label: str
    forced_ids: list[int] = field(default_factory=list)
    forced_answer: str | None = None
    correct: bool | None = None
    agrees: bool | None = None
    forced_logprob: float | None = None


@dataclass(frozen=True, slots=True)
class TraceRecord:
    """One unstopped generation with its cues.

    Attributes
    ----------
    trace_id, group
        Unique name; the prompt's identity, shared by its rollouts.
    prompt_ids, output_ids
        Token ids as the engine saw and made them.
    thinking_tokens
        Tokens of the thinking, without the ids that end it.
    text
        The decoded output.
    answer, gold
        Extracted from the full output; the reference, where known.
    full_correct
        Whether ``answer`` equals ``gold``; None without gold.
    level
        Difficulty, where the data set names one.
    finish_reason
        The engine's, for example "stop" or "length".
    cues
        By increasing position.
    hidden
        float32 [len(cues), n_layers * hidden_size]; the store's layers side by side.
    category
        Kind of problem, where the data set names one.

    """

    trace_id: str
    group: str
    prompt_ids: list[int]
    output_ids: list[int]
    thinking_tokens: int
    text: str
    answer: str | None
    gold: str | None
    full_correct: bool | None
    level: int | None
    finish_reason: str
    cues: list[CueRecord]
    hidden: npt.NDArray[np.float32]
    category: str | None = None

    def scored(self, scores: npt.ArrayLike, comparer: Comparer = AUTO) -> Trace:
        """Return the trace with one (shaped) float32 score per cue, for calibration.

        The comparer, that of the store, tells which forced answers repeat.
        """
        values = np.asarray(scores, dtype=np.float32).tolist()
        cues, repeats, before = [], 0, None
        for cue, score in zip(self.cues, values, strict=True):
            repeats = repeats + 1 if comparer.same(before, cue.forced_answer) else 0
            before = cue.forced_answer
            logprob = cue.forced_logprob
            cues.append(
                CueEvent(
                    position=cue.position,
                    score=score,
                    correct=cue.correct,
                    agrees=cue.agrees,
                    repeats=repeats,
                    confidence=None if logprob is None else math.exp(logprob),
                    answer_tokens=len(cue.forced_ids),
                )
            )
        return Trace(
            trace_id=self.trace_id,
            group=self.group,
            tokens=self.thinking_tokens,
            full_correct=self.full_correct,
            cues=tuple(cues),
            level=self.level,
            category=self.category,
        )

    def check(self, width: int) -> None:
        """Refuse a record which no calibration could use.

        Raises
        ------
        InputError
            Naming the trace and the field.

        """

        def refuse(field_name: str, why: str) -> InputError:
            return InputError(f"trace {self.trace_id!r}: {field_name} {why}")

        for name in ("trace_id", "group"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise refuse(name, "must be a string that is not empty")
        positions = [cue.position for cue in self.cues]
        if any(low >= high for low, high in pairwise(positions)):
            raise refuse("cues", f"must ascend in position, got {positions[:8]}")
        if positions and not 1 <= positions[0] <= positions[-1] <= self.thinking_tokens:
            raise refuse(
                "cues", f"must lie in 1..{self.thinking_tokens} (thinking_tokens), got {positions}"
            )
        if self.hidden.dtype != np.float32 or self.hidden.shape != (len(self.cues), width):
            raise refuse(
                "hidden",
                f"is {self.hidden.dtype} {list(self.hidden.shape)}, "
                f"not float32 [{len(self.cues)}, {width}]",
            )
        bad = np.flatnonzero(~np.isfinite(self.hidden).all(axis=1))
        if bad.size:
            raise refuse("hidden", f"holds NaN or infinity at cue {int(bad[0])}")


class TraceMeta(Record):
    """What all traces of a store have in common; its ``meta.json``.

    Attributes
    ----------
    model, closing, sampling, engine
        How the traces were made: model, how thinking was closed, sampling parameters, and the
        engine's version, runner and dtype.
    layers, hidden_size
        Which hidden states are kept, as in :class:`probes.spec.ProbeSpec`.
    cues
        The cue spec as JSON; ``stopper.cues`` reads it.
    comparer
        How answers were compared for ``correct`` and ``agrees``; see :mod:`calibration.comparers`.

    """

    schema_version: Positive = 1
    model: ModelFingerprint
    layers: tuple[Positive, ...]
    hidden_size: Positive
    cues: dict[str, JsonValue]
    closing: Closing
    sampling: dict[str, JsonValue] = Field(default_factory=dict)
    engine: dict[str, Text | None] = Field(default_factory=dict)
    comparer: Text = "auto"

    @field_validator("schema_version")
    @classmethod
    def _known(cls, version: int) -> int:
        if version != 1:
            raise ValueError(f"{version} is of a newer stopper; upgrade it")
        return version

    @field_validator("layers")
    @classmethod
    def _ascending(cls, layers: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if not layers or list(layers) != sorted(set(layers)):
            raise ValueError(f"must ascend without repetition, got {list(layers)}")
        model = info.data.get("model")
        if model is not None and layers[-1] > model.num_layers:
            raise ValueError(f"{layers[-1]} is beyond the model's {model.num_layers} layers")
        return layers

    @property
    def width(self) -> int:
        """Columns of a stored hidden state."""
        return len(self.layers) * self.hidden_size

    def columns(self, layers: Sequence[int]) -> npt.NDArray[np.intp]:
        """Return the columns of a stored hidden state that hold ``layers``.

        Raises
        ------
        InputError
            If one was not collected.

        """
        missing = [layer for layer in layers if layer not in self.layers]
        if missing:
            raise InputError(
                f"layers {missing} were not collected; the store holds {list(self.layers)}. "
                "Choose among these or collect again with `stopper collect --layers`"
            )
        starts = [self.layers.index(layer) * self.hidden_size for layer in layers]
        return np.concatenate([np.arange(start, start + self.hidden_size) for start in starts])
