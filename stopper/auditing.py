"""Between an artifact and the monitor: whose audits they are, and audits out of recorded traces."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.evaluate import threshold_stops
from calibration.losses import bad_cues
from calibration.monitor import Audit, Settings, audits_of
from calibration.monitor.monitor import DELTA, WARNING_DELTA
from calibration.rules.registry import restore
from calibration.table import CueTable
from probes.errors import InputError
from stopper.artifact import MANIFEST, Artifact, CalibrationRecord
from stopper.calibrating import rule_of


def artifact_name(folder: str | Path) -> str:
    """Name an artifact as decisions and audits do: 16 digits of its manifest's SHA-256."""
    try:
        data = (Path(folder) / MANIFEST).read_bytes()
    except OSError as problem:
        path = Path(folder) / MANIFEST
        raise InputError(f"{path}: cannot be read: {problem.strerror or problem}.") from None
    return hashlib.sha256(data).hexdigest()[:16]


def servable_record(artifact: Artifact, folder: str | Path) -> CalibrationRecord:
    """Give the promise that audits can be judged by.

    Raises
    ------
    InputError
        When there is none: not calibrated, or by LYNX's rule, which promises nothing per request.

    """
    record = artifact.manifest.calibration
    if record is None:
        raise InputError(
            f"{folder}: not calibrated, so there is no promise to watch. Run `stopper calibrate`."
        )
    if record.method == "lynx":
        raise InputError(
            f"{folder}: calibrated by method lynx, which promises nothing per request. Calibrate "
            "with `--method ltt` or `--method crc`."
        )
    return record


def settings_for(
    artifact: Artifact,
    folder: str | Path,
    method: str = "betting",
    delta: float = DELTA,
    warning_delta: float = WARNING_DELTA,
) -> Settings:
    """Say what a monitor of this artifact watches."""
    loss = servable_record(artifact, folder).loss
    return Settings(artifact_name(folder), loss, method, delta, warning_delta)


def traces_as_audits(
    table: CueTable,
    artifact: Artifact,
    folder: str | Path,
    alpha: float | None,
    begin: datetime,
) -> Iterator[Audit]:
    """Give the audits that recorded traces would have been under an artifact.

    Parameters
    ----------
    table
        Scored, with the labels that the artifact's loss needs.
    artifact, folder
        In memory, and where it lies.
    alpha
        The artifact's own by default.
    begin
        Time of the first audit.

    """
    record = servable_record(artifact, folder)
    asked = record.alpha if alpha is None else alpha
    return audits_of(
        table,
        bad_cues(table, record.loss),
        _stops(table, artifact, record, asked),
        artifact=artifact_name(folder),
        alpha=asked,
        loss_name=record.loss,
        begin=begin,
    )


def _stops(
    table: CueTable, artifact: Artifact, record: CalibrationRecord, alpha: float
) -> NDArray[np.int64]:
    if record.rule == "level":
        return threshold_stops(table, rule_of(artifact).threshold(alpha))
    if alpha != record.alpha:
        raise InputError(
            f"the artifact's rule {record.rule!r} was fitted at alpha {record.alpha:g} and cannot "
            f"answer alpha {alpha:g}. Leave --alpha out, or calibrate at {alpha:g}."
        )
    return restore(record.rule, record.parameters).stops(table)
