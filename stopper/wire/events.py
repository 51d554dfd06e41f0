"""The stop-decision endpoint's records: an event at a cue, and the decision on it."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from stopper.wire.problem import Problem

MAX_BATCH = 1024
MAX_REQUEST_ID = 256
MAX_POSITION = 2**31 - 1

RequestId = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_REQUEST_ID)]
Position = Annotated[int, msgspec.Meta(ge=0, le=MAX_POSITION)]

Reason = Literal[
    "score_above_threshold",
    "score_below_threshold",
    "score_not_finite",
    "too_few_calibration_traces",
    "margin_above_schedule",
    "margin_below_schedule",
    "argmax_changed",
    "audit",
    "kill_switch",
    "alarm",
    "artifact_changed",
    "artifact_unavailable",
    "store_unavailable",
    "refused",
]
"""Why a decision is what it is; a closed set, fit for a metric's label.

argmax_changed: the halting rule waits for a step at which no masked position's argmax has moved.
audit: the trace is audited; it would have stopped here. kill_switch, alarm: an operator or the
drift alarm has ended all stopping. artifact_changed: the trace began under an artifact that is
gone. artifact_unavailable: this replica cannot load the artifact that all serve, or it has expired.
store_unavailable: the trace's state cannot be read, so that nothing can be decided (fail open).
refused: see `problem`.
"""


class HiddenState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The hidden state at a cue's last token, the probe's layers side by side.

    Attributes
    ----------
    data
        Little-endian numbers, row-major.
    dtype
        Of `data`.
    shape
        (d,) or (1, d), d being the probe's input size.

    """

    data: bytes
    dtype: Literal["float16", "bfloat16", "float32"]
    shape: tuple[int, ...]


class DecisionEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One look: a cue of a reasoning trace, or a denoising step of a diffusion model.

    Exactly one of `hidden_state`, `score` and `logit_margins` is given.

    Attributes
    ----------
    request_id
        The trace; its positions ascend.
    model
        As the artifact or the sidecar's configuration names it.
    position
        Output tokens up to and including the cue (denoising step, from 0).
    hidden_state
        Scored by the artifact's probe.
    score
        Logit of your own probe, before shaping, for artifacts calibrated on such scores.
    logit_margins, progress
        Top-1 minus top-2 logit of each position of the region, and i / (T - 1) in [0, 1]
        (SchED, arXiv 2512.02892). Judged by the halting rule of the model's artifact, or else by
        the schedule of the settings.
    argmax_changed
        Of a denoising step: whether a masked position's argmax differs from the step before; true
        at a block's first step. Needed where the artifact's rule has `stable_argmax`.
    alpha
        Tolerated share of bad stops, in (0, 1); None takes the sidecar's. Fixed by a trace's first
        event.
    audit
        True: mark, never stop. False: the caller sees to audits. None: the sidecar chooses by
        `request_id`.

    """

    request_id: RequestId
    model: str
    position: Position
    hidden_state: HiddenState | None = None
    score: float | None = None
    logit_margins: Annotated[list[float], msgspec.Meta(min_length=1, max_length=65536)] | None = (
        None
    )
    progress: float | None = None
    alpha: float | None = None
    audit: bool | None = None
    argmax_changed: bool | None = None


class DecisionBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Up to `MAX_BATCH` events, decided in this order."""

    events: Annotated[list[DecisionEvent], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to one event.

    Attributes
    ----------
    request_id, position
        The event's.
    stop
        End the thinking (the denoising) here.
    reason
        Why.
    score, threshold
        Shaped score and what it was compared with (of a halting rule: the margin less the
        schedule's value, and the level; of a schedule alone: mean margin, and the schedule's
        value); None where there is none or where it is not finite.
    alpha
        The one that applied.
    artifact
        First 16 digits of the SHA-256 of the artifact's manifest.
    marked
        The trace is audited and has reached the cue at which it would have stopped.
    problem
        Why this event of a batch was refused.

    """

    request_id: str
    position: int
    stop: bool
    reason: Reason
    score: float | None
    threshold: float | None
    alpha: float | None
    artifact: str | None
    marked: bool = False
    problem: Problem | None = None


class Decisions(msgspec.Struct, frozen=True):
    """The answers to a batch, in its order; a refused event refuses no other."""

    decisions: list[Decision]
