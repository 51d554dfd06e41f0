"""What the sidecar's status and admin routes answer, as records without a framework."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypedDict

import msgspec

from stopper.service.audits.records import LeftOut, RearmedAnswer, Receipt
from stopper.service.status.records import Status

__all__ = [
    "ArtifactCard",
    "ArtifactState",
    "Artifacts",
    "Audit",
    "KillSwitchState",
    "LeftOut",
    "Readiness",
    "RearmedAnswer",
    "Receipt",
    "Status",
    "Stopping",
    "StoreState",
]


class ArtifactCard(msgspec.Struct, frozen=True):
    """An active artifact, and what it promises.

    Attributes
    ----------
    artifact
        First 16 digits of the SHA-256 of its manifest.
    since
        When it was loaded at run time; None: at the start. ISO 8601, as `expires`.
    previous
        The version that a rollback would serve.
    alpha
        Of requests that name none.
    silence, detail
        Why it stops nothing, and more on it where this replica alone cannot serve it.

    """

    model: str
    artifact: str
    folder: str
    since: str | None
    previous: str | None
    method: str
    loss: str
    alpha: float
    confidence: float | None
    promise: str
    calibration_traces: int
    expires: str | None
    silence: str | None
    detail: str | None


class Artifacts(msgspec.Struct, frozen=True):
    """All active artifacts of a replica."""

    artifacts: list[ArtifactCard]


class KillSwitchState(msgspec.Struct, frozen=True):
    """The switch; `by` is the name of an API key, `time` ISO 8601, UTC."""

    on: bool
    by: str | None
    why: str | None
    time: str | None


class StoreState(msgspec.Struct, frozen=True):
    """What a replica knows of its store; while it is away nothing is stopped."""

    kind: str
    reachable: bool


class ArtifactState(msgspec.Struct, frozen=True):
    """An active artifact; `silence` says why it stops nothing."""

    model: str
    artifact: str
    stops: bool
    silence: str | None


class Readiness(msgspec.Struct, frozen=True):
    """Whether a replica takes requests, which is this record's truth value.

    Attributes
    ----------
    unready, degraded
        Reasons, by part: why it takes none, and why less is stopped than could be.
    kill_switch
        Why it is on; None while it is off.
    alarms
        Standing drift alarms, by artifact.
    keys
        Why the key file cannot be read again.
    parts
        What other parts tell, such as `upstreams`.

    """

    ready: bool
    draining: bool
    unready: dict[str, str]
    degraded: dict[str, str]
    store: StoreState
    artifacts: list[ArtifactState]
    kill_switch: str | None
    alarms: dict[str, str]
    keys: str | None
    parts: dict[str, Any]

    def __bool__(self) -> bool:
        return self.ready


class Stopping(msgspec.Struct, frozen=True):
    """The answer to "stop thinking now"."""

    outcome: str


class Audit(TypedDict):
    """One audited request, in the format of docs/monitoring.md; a `datetime` needs its zone."""

    request_id: str
    time: str | datetime
    artifact: str
    alpha: float
    loss_name: Literal["disagree", "wrong", "harm"]
    marked: bool
    loss: Literal[0, 1]
    score: float | None
    cues: int
    tokens: int
    top_score: float | None
