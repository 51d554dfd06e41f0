"""Whether the parts of an artifact belong together; each refusal says which do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration import hierarchical
from calibration.risk import METHODS, threshold
from calibration.rules import DEFAULT_RULE, restore, rule_class
from calibration.splits import PROMPTS
from probes.errors import ArtifactError, InputError
from probes.scorers import Scorer
from stopper.cues import CueAutomaton
from stopper.manifest import CalibrationRecord, Manifest

WORST = "worst_scores"
"""Name of the calibration scores among an artifact's tensors."""


def check_parts(manifest: Manifest, probe: Scorer | None, cues: CueAutomaton | None) -> None:
    """Refuse weights or a cue matcher of another spec than the manifest's."""
    spec = probe.spec if probe else None
    if manifest.probe != spec:
        raise ArtifactError(f"the manifest's probe is {manifest.probe}, the weights' is {spec}")
    matched = cues.spec if cues else None
    if manifest.cues != matched:
        raise ArtifactError(f"the manifest's cues are {manifest.cues}, the matcher's {matched}")


def check_calibration(
    record: CalibrationRecord | None,
    worst: npt.NDArray[np.float32] | None,
    further: Mapping[str, npt.NDArray[Any]],
) -> None:
    """Refuse scores that are malformed, unsorted, or do not give the recorded threshold."""
    for name, array in further.items():
        if name == WORST:
            raise ArtifactError(f"{WORST} has a field of its own; not a calibration tensor")
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise ArtifactError(f"calibration tensor {name} holds NaN")
    if record is None:
        if worst is not None or further:
            raise ArtifactError("calibration tensors without a calibration record in the manifest")
        return
    if record.rule != DEFAULT_RULE:
        _check_rule(record)
    if record.method == "mapie" and worst is not None:
        raise ArtifactError(f"method mapie answers one alpha alone; {WORST} would answer others")
    if worst is None:
        if record.method not in ("lynx", "mapie"):
            raise ArtifactError(f"method {record.method} without {WORST}")
        return
    if worst.dtype != np.float32 or worst.ndim != 1:
        raise ArtifactError(f"{WORST} is {worst.dtype} {list(worst.shape)}, not float32 [n]")
    if worst.size != record.n_units:
        raise ArtifactError(f"{WORST} holds {worst.size} units, the manifest {record.n_units}")
    if np.isnan(worst).any() or np.isposinf(worst).any():
        raise ArtifactError(f"{WORST} holds NaN or +infinity")
    if (worst[1:] < worst[:-1]).any():
        raise ArtifactError(f"{WORST} is not in ascending order")
    if record.method == hierarchical.METHOD:
        _check_groups(record, worst, further.get(hierarchical.GROUPS))
    if record.method in METHODS and rule_class(record.rule).any_alpha:
        again = threshold(worst, record.alpha, record.method, record.confidence or 0.9)
        if again != record.threshold:
            raise ArtifactError(
                f"{WORST} gives the threshold {again} at alpha {record.alpha:g}, the manifest says "
                f"{record.threshold}"
            )


def _check_groups(
    record: CalibrationRecord,
    worst: npt.NDArray[np.float32],
    groups: npt.NDArray[Any] | None,
) -> None:
    """Refuse groups that are not the scores', or of another threshold than the record's."""
    if groups is None or groups.dtype != np.int64 or groups.shape != worst.shape:
        raise ArtifactError(
            f"method {record.method} needs {hierarchical.GROUPS}, int64, one a score"
        )
    again = hierarchical.threshold(worst, groups, record.alpha)
    if again != record.threshold:
        raise ArtifactError(
            f"{WORST} and {hierarchical.GROUPS} give the threshold {again} at alpha "
            f"{record.alpha:g}, the manifest says {record.threshold}"
        )


def _check_rule(record: CalibrationRecord) -> None:
    """Refuse parameters that are not the rule's, or of another threshold than the record's."""
    try:
        limit = restore(record.rule, record.parameters).threshold
    except InputError as problem:
        raise ArtifactError(str(problem)) from None
    if record.threshold != (np.inf if limit is None else limit):
        raise ArtifactError(
            f"the parameters of rule '{record.rule}' say threshold {limit}, the record "
            f"{record.threshold}"
        )


def check_splits(splits: Mapping[str, npt.NDArray[np.uint64]]) -> None:
    """Refuse splits that share a group or a prompt."""
    for name, hashes in splits.items():
        if hashes.dtype != np.uint64 or hashes.ndim != 1:
            raise ArtifactError(
                f"split {name} is {hashes.dtype} {list(hashes.shape)}, not uint64 [n]"
            )
        if name.endswith(PROMPTS) and name.removesuffix(PROMPTS) not in splits:
            raise ArtifactError(f"{name} are the prompts of a split that is missing")
    prompts = [name for name in splits if name.endswith(PROMPTS)]
    _disjoint(splits, [name for name in splits if name not in prompts], "groups")
    _disjoint(splits, prompts, "prompts")


def _disjoint(splits: Mapping[str, npt.NDArray[np.uint64]], names: list[str], what: str) -> None:
    for index, name in enumerate(names):
        for other in names[:index]:
            shared = np.intersect1d(splits[name], splits[other]).size
            if shared:
                raise ArtifactError(
                    f"{shared} {what} are in both splits {other.removesuffix(PROMPTS)} and "
                    f"{name.removesuffix(PROMPTS)}"
                )
