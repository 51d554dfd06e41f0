"""The vocabulary that all rooms share: a trace of thinking and the cues in it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CueEvent:
    """One place in a trace where the thinking could be ended.

    Attributes
    ----------
    position
        Thinking tokens spent when the trace is stopped here: the cue's last token counts, so a
        cue that ends at the tenth generated thinking token has position 10.
    score
        Logit; larger means safer to stop. Compared as float32.
    correct
        Whether the answer forced here equals the gold answer; None where no gold is known.
    agrees
        Whether the answer forced here equals the full trace's answer; None where not collected.
    repeats
        How many cues directly before hold the same forced answer; None where not collected.
    confidence
        Geometric mean of the forced answer's token probabilities, in [0, 1]; None likewise.
    answer_tokens
        Length of the forced answer; None likewise.

    """

    position: int
    score: float
    correct: bool | None = None
    agrees: bool | None = None
    repeats: int | None = None
    confidence: float | None = None
    answer_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """One request's full, unstopped thinking with its cues in order of position.

    Attributes
    ----------
    trace_id
        Unique within a data set.
    group
        The prompt's identity: rollouts of one prompt share it, and it never spans two splits.
    tokens
        Thinking tokens of the full trace.
    full_correct
        Whether the full trace's own answer is right; None where no gold is known.
    cues
        Events by increasing position; may be empty (such a trace is never stopped).
    level, category
        Difficulty and kind of the problem, where the data set names them.

    """

    trace_id: str
    group: str
    tokens: int
    full_correct: bool | None
    cues: tuple[CueEvent, ...]
    level: int | None = None
    category: str | None = None
