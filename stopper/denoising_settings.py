"""The setting that decodes were recorded under, and whether it is an artifact's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calibration.denoising import DenoisingTable
from probes.provenance import ModelFingerprint
from probes.validation import parse
from stopper.artifact import Artifact
from stopper.errors import InputError
from stopper.manifest import SamplerSpec


def setting_of(table: DenoisingTable) -> dict[str, Any]:
    """Give the fields of a :class:`~stopper.manifest.HaltingSpec` that a recording settles.

    Raises
    ------
    InputError
        If the decodes do not say what they were sampled with.

    """
    given = table.settings.get("sampler")
    if not isinstance(given, Mapping):
        raise InputError("the decodes do not say how they were sampled; record them again")
    rest = {**given}
    progress = rest.pop("progress", "block")
    known = {name: rest.pop(name) for name in SamplerSpec.model_fields if name in rest}
    known["options"] = {**known.get("options", {}), **rest}
    sampler = parse(SamplerSpec, known, "the decodes' sampler setting", "Record them again")
    return {"progress": progress, "sampler": sampler}


def fingerprint_of(table: DenoisingTable) -> ModelFingerprint | None:
    """Read which model the decodes are of; None where they do not say."""
    given = table.settings.get("model")
    if given is None:
        return None
    return parse(ModelFingerprint, given, "the decodes' model", "Record them again")


def require_setting(artifact: Artifact, table: DenoisingTable, source: str) -> None:
    """Refuse decodes of another model or sampler setting than the artifact's.

    Raises
    ------
    InputError
        Naming what differs.

    """
    spec, model = artifact.manifest.halting, fingerprint_of(table)
    if spec is None:
        raise InputError(
            "the artifact has no halting rule: it is for a reasoning model. Make one with "
            "`stopper diffusion calibrate`"
        )
    other = setting_of(table)
    differ = [f"sampler: {phrase}" for phrase in spec.sampler.mismatches(other["sampler"])]
    if other["progress"] != spec.progress:
        differ.append(f"progress is over the {other['progress']}, expected the {spec.progress}")
    ours = artifact.manifest.model
    if ours is not None and model is not None:
        differ += [f"model: {phrase}" for phrase in ours.mismatches(model)]
    if differ:
        raise InputError(
            f"{source}: recorded under another setting than the artifact's: {'; '.join(differ)}. "
            "Record again under the artifact's, or calibrate on these"
        )
