"""What `POST /v1/audits` and `POST /v1/alarm/re-arm` take and answer."""

from __future__ import annotations

from typing import Annotated

import msgspec

from stopper.service.control import Rearmed

MOST_AUDITS = 1000
"""In one body."""


class LeftOut(msgspec.Struct, frozen=True):
    """An audit that does not count, and why (docs/sidecar.md, "Audits and alarm")."""

    request_id: str
    artifact: str
    outcome: str


class Receipt(msgspec.Struct, frozen=True):
    """What became of the audits of a body.

    Attributes
    ----------
    counted
        New, and in the figures of all replicas now.
    waiting
        The store is away: they will be counted when it is back.
    left_out
        All others.
    alarms
        Artifacts of these audits whose alarm stands.

    """

    counted: int
    waiting: int
    left_out: list[LeftOut]
    alarms: list[str]


class Rearm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An operator's word that an alarm is to be taken back.

    Attributes
    ----------
    artifact
        Version whose alarm stands.
    why
        What has been found and done; it is kept and shown.

    """

    artifact: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]
    why: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class RearmedAnswer(msgspec.Struct, frozen=True):
    """What was noted; `generation` counts the changes of the control record."""

    artifact: str
    rearmed: Rearmed
    generation: int
