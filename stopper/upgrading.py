"""Bring an artifact of an older schema up to date: what can be known is filled in, no more."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import JsonValue

from calibration.splits import PROMPTS
from stopper.artifact import Artifact
from stopper.manifest import SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class Upgrade:
    """An artifact in the current schema.

    Attributes
    ----------
    artifact
        To be saved.
    added
        What was filled in, a phrase each.
    unknown
        What nothing in the old artifact tells, with what follows from it.
    """

    artifact: Artifact
    added: tuple[str, ...]
    unknown: tuple[str, ...]


def upgrade(old: Artifact) -> Upgrade:
    """Fill in the fields that the artifact's schema did not have."""
    manifest = old.manifest
    added, unknown = [], []
    changes: dict[str, object] = {"schema_version": SCHEMA_VERSION}
    engine = dict(manifest.engine) or _engine(manifest.training)
    if engine and not manifest.engine:
        changes["engine"] = engine
        added.append(f"engine: {_pairs(engine)} (from its training record)")
    elif not engine:
        unknown.append("engine: what served the traces")
    if not manifest.libraries:
        vllm = engine.get("vllm")
        known = {"stopper": manifest.stopper_version} | ({"vllm": vllm} if vllm else {})
        changes["libraries"] = known
        added.append(f"libraries: {_pairs(dict(known))}")
        unknown.append("libraries: versions of numpy, scikit-learn and others that made it")
    if manifest.comparer is None and manifest.probe is not None:
        unknown.append("comparer: how answers were compared for its labels")
    if manifest.calibration is not None:
        if manifest.schema_version == 1:
            added.append(f"calibration.rule: {manifest.calibration.rule}, the only one there was")
        if manifest.profile is None:
            unknown.append("profile: what its calibration traffic looked like, for drift warnings")
    groups = [name for name, hashes in old.splits.items() if hashes.size and PROMPTS not in name]
    lacking = [name for name in groups if name + PROMPTS not in old.splits]
    if lacking and manifest.probe is not None:
        unknown.append(
            f"prompt hashes of the splits {', '.join(lacking)}: the same prompt under another "
            "group's name cannot be told"
        )
    artifact = Artifact(
        manifest=manifest.model_copy(update=changes),
        probe=old.probe,
        cues=old.cues,
        worst_scores=old.worst_scores,
        splits=old.splits,
        calibration_tensors=old.calibration_tensors,
    )
    return Upgrade(artifact, tuple(added), tuple(unknown))


def _engine(training: dict[str, JsonValue]) -> dict[str, str | None]:
    found = training.get("engine")
    if not isinstance(found, dict):
        return {}
    return {name: value for name, value in found.items() if value is None or isinstance(value, str)}


def _pairs(fields: dict[str, str | None]) -> str:
    return ", ".join(f"{name} {value}" for name, value in fields.items())
