"""Which artifact serves which model, on this replica."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from probes.network import Probe
from probes.scorers import require_servable
from probes.shaping import weight_of
from stopper.artifact import MANIFEST, Artifact
from stopper.errors import ArtifactError, InputError
from stopper.halting_policy import HaltingPolicy
from stopper.manifest import CalibrationRecord
from stopper.policy import StopPolicy
from stopper.service.settings import ArtifactSource

logger = logging.getLogger(__name__)

KEPT_VERSIONS = 4
"""Versions kept per model, so that traces which began under an older one can end under it."""


@dataclass(frozen=True, slots=True)
class Served:
    """One version of an artifact, ready to decide.

    Attributes
    ----------
    version
        First 16 digits of the SHA-256 of its manifest, as the engine's decisions name it.
    policy, halting
        What gives thresholds: one of the two, the second in an artifact of a diffusion model.
    probe
        None in an artifact made from a user's own scores, or of a diffusion model.
    weight
        Of the rise (`probes.shaping`); own scores come shaped.
    alpha
        Of requests that name none.

    """

    version: str
    model: str
    folder: Path
    artifact: Artifact
    record: CalibrationRecord
    policy: StopPolicy | None
    halting: HaltingPolicy | None
    probe: Probe | None
    weight: float
    alpha: float

    def threshold(self, alpha: float) -> float:
        """Return what a score must exceed at an alpha, a float32 value.

        Raises
        ------
        InputError
            If the alpha is out of its range, or the artifact has no threshold for it.

        """
        if self.policy is not None:
            return float(self.policy.threshold(alpha))
        assert self.halting is not None
        return float(self.halting.level(alpha))

    @classmethod
    def read(cls, source: ArtifactSource, alpha: float | None) -> Served:
        """Load and check a folder.

        Raises
        ------
        StopperError
            If it cannot be served, with the remedy.

        """
        artifact = Artifact.load(source.folder)
        record, named = artifact.manifest.calibration, artifact.manifest.model
        diffuses = artifact.manifest.halting is not None
        policy = None if diffuses else StopPolicy.from_artifact(artifact)
        halting = HaltingPolicy.from_artifact(artifact) if diffuses else None
        assert record is not None
        model = source.model or (named.model if named is not None else None)
        if model is None:
            raise InputError(
                f"{source.folder}: was made from scores and names no model; give MODEL=DIR"
            )
        probe = None
        if artifact.probe is not None:
            probe = require_servable(artifact.probe, source.folder)
        used = record.alpha if alpha is None else alpha
        digest = hashlib.sha256((source.folder / MANIFEST).read_bytes()).hexdigest()
        served = cls(
            digest[:16],
            model,
            source.folder,
            artifact,
            record,
            policy,
            halting,
            probe,
            weight_of(probe.spec) if probe is not None else 0.0,
            used,
        )
        served.threshold(used)
        return served


class UnknownModel(InputError):  # noqa: N818 - reads as a sentence where it is raised
    """No artifact serves the model."""


class Catalog:
    """The artifacts of this replica: one active version a model, and a few older ones.

    Parameters
    ----------
    sources
        Folders to begin with.
    alpha
        The operator's; None takes each artifact's own.
    root
        Where folders named at run time must lie; None takes the parent of each model's first.

    Raises
    ------
    StopperError
        If a folder cannot be served, or two serve one model.

    """

    def __init__(
        self, sources: tuple[ArtifactSource, ...], alpha: float | None, root: Path | None = None
    ) -> None:
        self._alpha = alpha
        self._root = root
        self._first: dict[str, ArtifactSource] = {}
        self._active: dict[str, Served] = {}
        self._versions: OrderedDict[str, Served] = OrderedDict()
        self._withheld: dict[str, str] = {}
        self._listeners: list[Callable[[], None]] = []
        for source in sources:
            served = Served.read(source, alpha)
            if served.model in self._active:
                raise InputError(
                    f"{source.folder} and {self._active[served.model].folder} both serve model "
                    f"{served.model!r}; give one of them another name by MODEL=DIR"
                )
            self._first[served.model] = source
            self.activate(served)

    def active(self, model: str) -> Served:
        """Return what serves a model.

        Raises
        ------
        UnknownModel
            Naming the models that are served.

        """
        served = self._active.get(model)
        if served is None:
            known = ", ".join(sorted(self._active)) or "none"
            raise UnknownModel(f"model {model!r} is not served here; served are: {known}")
        return served

    def halts(self, model: str) -> bool:
        """Say whether a model is served by an artifact with a halting rule."""
        served = self._active.get(model)
        return served is not None and served.halting is not None

    def all_active(self) -> list[Served]:
        """Return the active versions, by model."""
        return [self._active[model] for model in sorted(self._active)]

    def only(self) -> Served | None:
        """Return the active version where there is exactly one model."""
        return next(iter(self._active.values())) if len(self._active) == 1 else None

    def version(self, version: str) -> Served | None:
        """Return a version that is still held."""
        return self._versions.get(version)

    def silence(self, model: str) -> Literal["artifact_unavailable"] | None:
        """Say why nothing may be decided for a model on this replica; None if it may."""
        return "artifact_unavailable" if model in self._withheld else None

    def withheld(self) -> dict[str, str]:
        """Return the models for which nothing is decided here, and why."""
        return dict(self._withheld)

    def withhold(self, model: str, why: str | None) -> None:
        """Decide nothing for a model, until called with None."""
        if why is None:
            self._withheld.pop(model, None)
        else:
            if self._withheld.get(model) != why:
                logger.error("nothing is stopped for model %s: %s", model, why)
            self._withheld[model] = why

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever a version has become active; it must not raise."""
        self._listeners.append(listener)

    def read(self, model: str, folder: str | None) -> Served:
        """Load a folder for a model without serving it yet.

        Parameters
        ----------
        folder
            A name below the root; None reads the active folder again.

        Raises
        ------
        UnknownModel, StopperError
            If the name leaves the root, the folder cannot be served, or it needs other events than
            the active one: its probe reads other hidden states, its halting rule other margins.

        """
        active = self.active(model)
        path = active.folder if folder is None else self._below_root(model, folder)
        served = Served.read(ArtifactSource(folder=path, model=model), self._alpha)
        if _asks(active.halting) != _asks(served.halting):
            raise ArtifactError(
                f"{path}: its halting rule needs other events than the active artifact's (region, "
                "progress, sampler or argmax_changed); engines send those they were started with. "
                "Start them and the sidecar anew"
            )
        before, after = active.probe, served.probe
        if (before is None) != (after is None) or (
            before is not None
            and after is not None
            and (before.spec.layers, before.spec.hidden_size)
            != (after.spec.layers, after.spec.hidden_size)
        ):
            raise ArtifactError(
                f"{path}: its probe reads other hidden states than the active artifact's; engines "
                "send those they were started with. Start them and the sidecar anew"
            )
        return served

    def _below_root(self, model: str, folder: str) -> Path:
        root = self._root if self._root is not None else self._first[model].folder.parent
        if Path(folder).name != folder or not folder.isprintable() or folder in ("", ".", ".."):
            raise InputError(f"folder {folder!r}: give the name of a folder in {root.name}/")
        return root / folder

    def activate(self, served: Served) -> None:
        """Serve a version from now on; one assignment, so that every decision sees one version."""
        self._versions[served.version] = served
        self._versions.move_to_end(served.version)
        self._active[served.model] = served
        of_model = [v for v, held in self._versions.items() if held.model == served.model]
        for old in of_model[:-KEPT_VERSIONS]:
            del self._versions[old]
        logger.info("model %s is served by artifact %s", served.model, served.version)
        for listener in self._listeners:
            listener()


def _asks(policy: HaltingPolicy | None) -> object:
    """Return what a halting rule takes for granted of the events that it decides on."""
    if policy is None:
        return None
    spec = policy.spec
    return spec.region, spec.progress, spec.sampler, spec.stable_argmax
