"""The artifact: one folder that carries a probe, its cues and the promise calibrated for them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as dump_tensors

from probes.errors import ArtifactError, InputError
from probes.provenance import Closing, ModelFingerprint, fingerprint_files, sha256_text
from probes.scorers import Scorer, scorer_from_tensors
from probes.validation import parse, read_json
from stopper import consistency, folders
from stopper import manifest as card
from stopper.consistency import WORST
from stopper.cues import CueAutomaton
from stopper.manifest import SCHEMA_VERSION, CalibrationRecord, Manifest

__all__ = [
    "Artifact", "ArtifactError", "CalibrationRecord", "Closing", "Manifest", "ModelFingerprint",
    "fingerprint_files", "sha256_text",
]  # fmt: skip

Arrays = dict[str, npt.NDArray[Any]]

MANIFEST = "manifest.json"
TENSORS = ("probe.safetensors", "cues.safetensors", "calibration.safetensors", "splits.safetensors")
MAX_MANIFEST_BYTES = 1 << 20
MAX_TENSOR_BYTES = 512 << 20

_AGAIN = "Make it again with `stopper train` and `stopper calibrate`, or copy it again"


@dataclass(frozen=True)
class Artifact:
    """A probe with its promise, in memory; on disk JSON and safetensors, nothing executable.

    Attributes
    ----------
    manifest
        The card. ``files`` is filled in by :meth:`save`.
    probe
        The scorer; None in an artifact made from a user's own scores.
    cues
        The cue matcher; None likewise.
    worst_scores
        float32 [n], ascending: per calibration unit the highest score among its bad cues, -inf
        where it has none. None before calibration and for method "lynx".
    splits
        uint64 hashes of the groups in each split, by its name, and of their prompts, by its name
        and ".prompts"; no group and no prompt is in two.
    calibration_tensors
        Further arrays of a calibration method, by name.

    """

    manifest: Manifest
    probe: Scorer | None = None
    cues: CueAutomaton | None = None
    worst_scores: npt.NDArray[np.float32] | None = None
    splits: Mapping[str, npt.NDArray[np.uint64]] = field(default_factory=dict)
    calibration_tensors: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse parts that do not belong together."""
        consistency.check_parts(self.manifest, self.probe, self.cues)
        consistency.check_calibration(
            self.manifest.calibration, self.worst_scores, self.calibration_tensors
        )
        consistency.check_splits(self.splits)

    def mismatches(self, fingerprint: ModelFingerprint) -> list[str]:
        """Return one phrase per field in which a served model is not the artifact's.

        An artifact without a model (own scores) fits none.
        """
        if self.manifest.model is None:
            return ["the artifact names no model: it was made from scores, not from traces"]
        return self.manifest.model.mismatches(fingerprint)

    def save(self, folder: str | Path) -> Manifest:
        """Write the artifact, all or nothing; an older artifact there is replaced.

        Files in the folder which are not the artifact's own are kept.

        Returns
        -------
        Manifest
            As written, with the hashes of all files.

        Raises
        ------
        ArtifactError
            If ``folder`` exists and is not an artifact, or a file would exceed the size limit.

        """
        target = Path(folder)
        check_target(target)
        contents = {name: dump_tensors(arrays) for name, arrays in self._arrays().items()}
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
        changes = {"schema_version": SCHEMA_VERSION, "files": hashes}
        written = self.manifest.model_copy(update=changes)
        contents[MANIFEST] = card.dump(written)
        for name, data in contents.items():
            limit = MAX_MANIFEST_BYTES if name == MANIFEST else MAX_TENSOR_BYTES
            if len(data) > limit:
                raise ArtifactError(f"{target / name}: {len(data)} bytes, the limit is {limit}")
        folders.replace(target, contents, owned={MANIFEST, *TENSORS})
        return written

    def _arrays(self) -> dict[str, Arrays]:
        calibration: Arrays = dict(self.calibration_tensors)
        if self.worst_scores is not None:
            calibration[WORST] = self.worst_scores
        every: dict[str, Arrays] = {
            "probe.safetensors": dict(self.probe.to_tensors()) if self.probe else {},
            "cues.safetensors": dict(self.cues.to_tensors()) if self.cues else {},
            "calibration.safetensors": calibration,
            "splits.safetensors": dict(self.splits),
        }
        # safetensors writes the bytes of the buffer: views must become contiguous first.
        return {
            name: {key: np.ascontiguousarray(value) for key, value in arrays.items()}
            for name, arrays in every.items()
            if arrays
        }

    @classmethod
    def load(
        cls, folder: str | Path, now: datetime | None = None, allow_expired: bool = False
    ) -> Artifact:
        """Read an artifact and verify all of it.

        Parameters
        ----------
        folder
            Where it lies.
        now
            Aware time to judge expiry at; the clock's by default.
        allow_expired
            For looking at an artifact or renewing it, never for serving it.

        Raises
        ------
        ArtifactError
            Names the file and the remedy: missing, truncated, oversized, altered, of another
            schema, expired, or inconsistent in itself.

        """
        root = Path(folder)
        manifest = read_manifest(root)
        if not allow_expired and manifest.expired(now or datetime.now(UTC)):
            raise ArtifactError(f"{root / MANIFEST}: {expiry(manifest, root)}")
        arrays = {name: _read_tensors(root, name, sha) for name, sha in manifest.files.items()}
        _check_presence(root, manifest, arrays)
        source = root / "probe.safetensors"
        try:
            probe, cues = None, None
            if manifest.probe is not None:
                probe = scorer_from_tensors(manifest.probe, arrays[source.name])
            source = root / "cues.safetensors"
            if manifest.cues is not None:
                cues = CueAutomaton.from_tensors(arrays[source.name], manifest.cues)
            source = root / "calibration.safetensors"
            calibration = arrays.get(source.name, {})
            worst = calibration.pop(WORST, None)
            return cls(
                manifest=manifest,
                probe=probe,
                cues=cues,
                worst_scores=worst,
                splits=arrays.get("splits.safetensors", {}),
                calibration_tensors=calibration,
            )
        except (InputError, ValueError, KeyError, IndexError, TypeError) as problem:
            text = str(problem)
            where = "" if text.startswith(str(root)) else f"{source}: "
            raise ArtifactError(f"{where}{text}. {_AGAIN}") from None


def expiry(manifest: Manifest, folder: str | Path) -> str:
    """Say when a card expired and which command renews it."""
    source = f"{folder} --traces NEW_TRACES"
    if manifest.probe is None:
        source = f"--scores NEW.jsonl --out {folder}"
    return (
        f"expired on {manifest.expires:%Y-%m-%d %H:%M %Z}; its promise no longer holds. Renew it "
        f"on fresh traces: `stopper calibrate {source} --valid-days DAYS`"
    )


def check_target(folder: str | Path) -> None:
    """Refuse to write an artifact over something else.

    Raises
    ------
    ArtifactError
        If ``folder`` exists and is neither empty nor an artifact.

    """
    target = Path(folder)
    if target.exists() and not _is_artifact(target) and not folders.is_empty(target):
        raise ArtifactError(
            f"{target}: exists and is not an artifact (it has no {MANIFEST} of stopper's); "
            "nothing was overwritten. Choose another folder"
        )


def read_manifest(folder: str | Path) -> Manifest:
    """Read and verify an artifact's card alone (also of an expired one).

    Raises
    ------
    ArtifactError
        As :meth:`Artifact.load`.

    """
    path = Path(folder) / MANIFEST
    try:
        data = folders.read(path, MAX_MANIFEST_BYTES)
    except FileNotFoundError:
        raise ArtifactError(
            f"{folder}: no artifact here ({MANIFEST} is missing). "
            "Make one with `stopper train` and `stopper calibrate`"
        ) from None
    except OSError as problem:
        raise ArtifactError(f"{path}: {problem.strerror or problem}. {_AGAIN}") from None
    try:
        fields = read_json(data)
    except ValueError as problem:
        raise ArtifactError(f"{path}: not a JSON manifest ({problem}). {_AGAIN}") from None
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if type(version) is not int:
        raise ArtifactError(f"{path}: not a manifest (no schema_version). {_AGAIN}")
    if version > SCHEMA_VERSION:
        raise ArtifactError(
            f"{path}: schema {version}, made by a newer stopper "
            f"({fields.get('stopper_version', 'version unknown')}). "
            "Upgrade with `pip install --upgrade stopper`"
        )
    if version < 1:
        raise ArtifactError(
            f"{path}: schema {version} is no longer read (this is {SCHEMA_VERSION}). "
            "Make it again with `stopper train` and `stopper calibrate`"
        )
    if fields.pop("digest", None) != card.digest(fields):
        raise ArtifactError(
            f"{path}: altered since it was written (its digest does not match). {_AGAIN}"
        )
    return parse(Manifest, fields, str(path), _AGAIN, error=ArtifactError)


def _read_tensors(root: Path, name: str, sha: str) -> Arrays:
    path = root / name
    if name not in TENSORS:
        raise ArtifactError(
            f"{root / MANIFEST}: files names {name!r}, which is no file of an artifact. {_AGAIN}"
        )
    try:
        data = folders.read(path, MAX_TENSOR_BYTES)
    except OSError as problem:
        raise ArtifactError(f"{path}: {problem.strerror or problem}. {_AGAIN}") from None
    if hashlib.sha256(data).hexdigest() != sha:
        raise ArtifactError(
            f"{path}: damaged or from another artifact (SHA-256 is not the manifest's). {_AGAIN}"
        )
    try:
        return dict(load_tensors(data))
    except (SafetensorError, ValueError, KeyError, TypeError) as problem:
        raise ArtifactError(f"{path}: not a safetensors file ({problem}). {_AGAIN}") from None


def _check_presence(root: Path, manifest: Manifest, arrays: Mapping[str, Arrays]) -> None:
    for part, wanted in (("probe", manifest.probe), ("cues", manifest.cues)):
        name = f"{part}.safetensors"
        if (wanted is not None) != (name in arrays):
            state = "names none" if wanted is not None else "names one without its spec"
            raise ArtifactError(f"{root / name}: {MANIFEST} {state}. {_AGAIN}")
    if manifest.calibration is not None and "calibration.safetensors" not in arrays:
        name = "calibration.safetensors"
        raise ArtifactError(f"{root / name}: {MANIFEST} names none. {_AGAIN}")


def _is_artifact(folder: Path) -> bool:
    try:
        fields = read_json(folders.read(folder / MANIFEST, MAX_MANIFEST_BYTES))
    except (OSError, ValueError):
        return False
    return isinstance(fields, dict) and {"schema_version", "stopper_version"} <= fields.keys()
