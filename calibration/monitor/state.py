"""A monitor's state as one JSON file: versioned, checked, and exact to the last bit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from calibration.files import replacing
from calibration.monitor.audits import ArtifactName, LossName, Moment, Share
from calibration.monitor.evidence import EvidenceState
from calibration.monitor.panels import PanelState
from calibration.monitor.requests import RequestsState
from probes.errors import InputError
from probes.validation import Count, Finite, Positive, Record, parse, read_json

STATE_VERSION: Literal[1] = 1
MAX_STATE_BYTES = 16 << 20


class Tally(Record):
    """Requests and bad ones at one alpha."""

    alpha: Share
    audits: Positive
    bad: Count


class Point(Record):
    """The course of the test after some audit, for a plot."""

    audits: Count
    bad: Count
    mean_alpha: Finite
    value: Finite
    bar: Finite


class AlarmState(Record):
    """When the alarm was raised; it stays."""

    audits: Positive
    time: Moment


class MonitorState(Record):
    """Everything a :class:`~calibration.monitor.Monitor` is made of; see there."""

    version: Literal[1] = STATE_VERSION
    artifact: ArtifactName
    loss_name: LossName
    delta: Share
    warning_delta: Share
    audits: Count = 0
    bad: Count = 0
    alpha_sum: Finite = 0.0
    repeated: Count = 0
    late: Count = 0
    tallies: tuple[Tally, ...] = ()
    evidence: EvidenceState
    alarm: AlarmState | None = None
    panels: dict[str, PanelState] = Field(default_factory=dict)
    stride: Positive = 1
    trail: tuple[Point, ...] = ()
    requests: RequestsState = RequestsState()


_REMEDY = (
    "Restore the file from a backup, or delete it and replay the whole log: stopper monitor begins "
    "anew where there is no state"
)


def digest(fields: dict[str, Any]) -> str:
    """Return the SHA-256 of a state's fields as canonical JSON."""
    # An altered digit can read as infinity ("1e999"): that has a digest too, a wrong one.
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def write_state(path: str | Path, state: MonitorState) -> None:
    """Write a state, all or nothing.

    Raises
    ------
    InputError
        When the file cannot be written; what was there before stays.

    """
    with replacing(path) as file:
        file.write(dump_state(state) + b"\n")


def dump_state(state: MonitorState) -> bytes:
    """Give a state as JSON with its digest; equal states give equal bytes."""
    fields = json.loads(state.model_dump_json())
    fields["digest"] = digest(fields)
    return json.dumps(fields, allow_nan=False).encode()


def read_state(path: str | Path) -> MonitorState:
    """Read a state back.

    Raises
    ------
    InputError
        When it is missing, cut off, altered or of a newer version, with the remedy.

    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_STATE_BYTES + 1)
    except OSError as problem:
        raise InputError(f"{path}: cannot be read: {problem.strerror or problem}.") from None
    if len(data) > MAX_STATE_BYTES:
        raise InputError(f"{path}: larger than {MAX_STATE_BYTES} bytes, so no state. {_REMEDY}.")
    return load_state(data, str(path))


def load_state(data: bytes, source: str) -> MonitorState:
    """Read what :func:`dump_state` gave.

    Raises
    ------
    InputError
        As :func:`read_state`, naming `source`.

    """
    try:
        fields = read_json(data)
    except ValueError as problem:
        raise InputError(f"{source}: not JSON, or cut off ({problem}). {_REMEDY}.") from None
    if not isinstance(fields, dict) or type(fields.get("version")) is not int:
        raise InputError(f"{source}: not the state of a monitor (no version). {_REMEDY}.")
    if fields["version"] > STATE_VERSION:
        raise InputError(
            f"{source}: version {fields['version']}, written by a newer stopper. Upgrade with "
            "`pip install --upgrade stopper`."
        )
    if fields.pop("digest", None) != digest(fields):
        raise InputError(f"{source}: altered since it was written (wrong digest). {_REMEDY}.")
    return parse(MonitorState, fields, source, f"{_REMEDY}.")
