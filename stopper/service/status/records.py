"""What `GET /v1/status` answers: everything that the status page draws, in one record.

Times are ISO 8601, UTC. Infinite thresholds are None; `stops` says what they mean.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from stopper.service.control import Alarm, Control, Rearmed


class Card(msgspec.Struct, frozen=True):
    """An active artifact, as its manifest tells it.

    Attributes
    ----------
    folder
        Its name, without the path to it.
    alpha
        Tolerated share of bad stops of requests that name none.
    threshold
        At `alpha`; None where it is infinite.
    stops
        What the threshold means: "above_threshold", "at_first_cue" (-infinity: no calibration
        trace was ever stopped badly) or "never" (+infinity: too few calibration traces).
    confidence
        Over the calibration draw; None where the promise holds on average over it.
    n
        Prompts calibrated on, which the promise counts.

    """

    model: str
    version: str
    folder: str
    alpha: float
    threshold: float | None
    stops: Literal["above_threshold", "at_first_cue", "never"]
    method: str
    loss: str
    confidence: float | None
    n: int
    promise: str
    created: str
    expires: str | None
    expired: bool


class Warned(msgspec.Struct, frozen=True):
    """Traffic has left the calibration profile: advice, no alarm (docs/monitoring.md).

    Attributes
    ----------
    panel
        "cues", "tokens" or "top_scores".
    text
        What has changed.
    audits, time
        When it was noticed.
    distance
        Total variation, 0 to 1.

    """

    panel: str
    text: str
    audits: int
    time: str
    distance: float


class Panel(msgspec.Struct, frozen=True):
    """One number a request: its histogram in the calibration traces, and in the audits so far.

    Bin i holds edges[i - 1] <= x < edges[i]; the first and the last are open.
    """

    name: str
    label: str
    edges: list[float]
    calibration: list[int]
    audits: list[int]


class Standing(msgspec.Struct, frozen=True):
    """How the promise of one artifact stands by its audits, over all replicas.

    Attributes
    ----------
    audits, bad
        So far, and those that would have been stopped badly.
    share, low, high
        bad / audits, with 95 % bounds on the mean risk that hold at all times.
    alpha
        Mean of the audited requests' alphas, which the risk must not exceed; None before the first.
    value, bar, label
        Where the test stands, what raises the alarm, and what `value` is: the drift gauge.
    delta
        Probability of any false alarm, ever.
    alarm, since, since_time
        Whether, at which audit, and when.
    repeated, late
        Left out: counted before, or too old to tell.
    sentence
        All of it in words.
    updated
        When the last audit was taken in.

    """

    artifact: str
    audits: int
    bad: int
    share: float
    low: float
    high: float
    alpha: float | None
    value: float
    bar: float
    label: str
    method: str
    delta: float
    alarm: bool
    since: int | None
    since_time: str | None
    repeated: int
    late: int
    warnings: list[Warned]
    panels: list[Panel]
    sentence: str
    updated: str


class Scores(msgspec.Struct, frozen=True):
    """Shaped scores at cues: of the calibration traces, and a sample of those seen lately.

    A trace that is stopped has no later cues, so that the two need not agree; the panel
    "top_scores" of `Standing`, of whole traces, is the one to judge by.
    """

    edges: list[float]
    calibration: list[int]
    recent: list[int]


class Served(msgspec.Struct, frozen=True):
    """An active artifact and how it fares.

    Attributes
    ----------
    silenced
        Why it stops nothing at present; None if it may. "artifact_unavailable": this replica cannot
        load the version that serves the model.
    standing
        None before the first audit, or while the store is away and nothing is known.
    fault
        Why its audits cannot be counted, with the remedy; None if they can.
    scores
        None if its manifest holds no profile.

    """

    card: Card
    silenced: Literal["kill_switch", "alarm", "artifact_unavailable"] | None
    alarm: Alarm | None
    rearmed: Rearmed | None
    standing: Standing | None
    fault: str | None
    scores: Scores | None


class Recent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of the newest decisions.

    Attributes
    ----------
    source
        "front": a request through the OpenAI-compatible front. "events": the stop-decision
        endpoint.
    decision
        For the front as in the response's `stopper` object; for events "stop", "continue" or
        "mark".

    """

    source: Literal["front", "events"]
    time: str
    request_id: str
    decision: str
    reason: str | None = None
    model: str | None = None
    position: int | None = None
    score: float | None = None
    threshold: float | None = None
    alpha: float | None = None
    tokens_saved_estimate: float | None = None
    artifact: str | None = None


class StoreStatus(msgspec.Struct, frozen=True):
    """The store; while it is not reachable nothing is stopped by the stop-decision endpoint."""

    kind: Literal["memory", "redis"]
    reachable: bool


class Auditing(msgspec.Struct, frozen=True):
    """How this replica audits.

    Attributes
    ----------
    share
        Of the requests, chosen by their id.
    waiting
        Audits that are not in the store yet.
    lost
        Audits of this replica that never will be.

    """

    share: float
    waiting: int
    lost: int


class Status(msgspec.Struct, frozen=True):
    """How the sidecar fares.

    Attributes
    ----------
    uptime_s
        Of this replica, in seconds.
    unready
        Reasons by part why this replica takes no requests; empty if it does.
    control
        What operators and the alarm decided for all replicas.
    counters
        Of all replicas since the store began.
    decisions
        The newest ones of all replicas, newest last.

    """

    version: str
    time: str
    uptime_s: float
    draining: bool
    unready: dict[str, str]
    store: StoreStatus
    control: Control
    artifacts: list[Served]
    auditing: Auditing
    counters: dict[str, float]
    decisions: list[Recent]
