"""From recorded decodes to a halting rule with a promise: splits, shape, level, artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from calibration.denoising import DenoisingTable, worst_scores
from calibration.risk import DEFAULT_CONFIDENCE, check_alpha, require_units, threshold
from calibration.simultaneous import CORRECTIONS, Correction
from calibration.splits import group_hashes, require_disjoint, split_groups
from stopper import __version__
from stopper.artifact import Artifact, CalibrationRecord, Manifest
from stopper.denoising_settings import fingerprint_of, setting_of
from stopper.errors import InputError
from stopper.halting import HaltingRule
from stopper.halting_shapes import Candidate, choose_shape, scores_of, units_of
from stopper.halting_tests import certify
from stopper.libraries import versions_used
from stopper.manifest import HaltingSpec

Method = Literal["ltt", "crc", "mapie"]
HALTING_METHODS: tuple[Method, ...] = ("ltt", "crc", "mapie")

SELECT, CALIBRATE = "select", "calibrate"
_SHOWN = 10


@dataclass(frozen=True)
class Terms:
    """What is asked.

    Attributes
    ----------
    alpha
        Share of requests that may be halted with another answer than the full decode's.
    method, confidence
        ``ltt`` or ``crc`` (:mod:`calibration.risk`), the shape being chosen on prompts of its own;
        ``mapie``: shape and level are tested together (:mod:`calibration.simultaneous`).
    correction
        Of ``mapie``, for the number of candidates.

    """

    alpha: float
    method: Method = "ltt"
    confidence: float = DEFAULT_CONFIDENCE
    correction: Correction = "split_fixed_sequence"

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        if self.method not in HALTING_METHODS:
            choices = ", ".join(HALTING_METHODS)
            raise InputError(f"method {self.method!r} is unknown; choose one of {choices}")
        if self.correction not in CORRECTIONS:
            choices = ", ".join(CORRECTIONS)
            raise InputError(f"correction {self.correction!r} is unknown; choose one of {choices}")


@dataclass(frozen=True, eq=False)
class HaltingCalibration:
    """A halting rule, its level and what it promises.

    Attributes
    ----------
    rule, level
        Halt where float32(score) > float32(level).
    terms
        As asked for.
    promise
        The sentence to print.
    worst_scores
        float32 [n_units], ascending, from which any alpha is answered; None with ``mapie``.
    n_units, n_traces, n_steps
        Groups, decodes and denoising steps calibrated on.
    rollouts
        Most decodes of one group.
    expected_steps
        Mean passes a request, as measured where the shape was chosen.
    candidates
        What was chosen from, best first.
    parameters
        Of method ``mapie``: what was tested.

    """

    rule: HaltingRule
    level: float
    terms: Terms
    promise: str
    worst_scores: npt.NDArray[np.float32] | None
    n_units: int
    n_traces: int
    n_steps: int
    rollouts: int
    expected_steps: float
    candidates: tuple[Candidate, ...]
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give the figures as plain JSON."""
        infinite = {np.inf: "Infinity", -np.inf: "-Infinity"}
        return {
            "alpha": self.terms.alpha,
            "method": self.terms.method,
            "confidence": None if self.terms.method == "crc" else self.terms.confidence,
            "rule": self.rule.to_json(),
            "level": infinite.get(self.level, self.level),
            "n_units": self.n_units,
            "n_traces": self.n_traces,
            "n_steps": self.n_steps,
            "expected_steps": self.expected_steps,
            "parameters": dict(self.parameters),
            "promise": self.promise,
        }


def share_out(
    table: DenoisingTable, fraction: float, seed: int = 0
) -> tuple[DenoisingTable, DenoisingTable]:
    """Split one store by group: a share to choose the shape on, the rest to calibrate on.

    Raises
    ------
    InputError
        If the fraction is not strictly between 0 and 1, or leaves a side empty.

    """
    if not 0 < fraction < 1:
        raise InputError(f"select fraction is {fraction}; give a share strictly between 0 and 1")
    rows = split_groups(table.groups, {SELECT: fraction, CALIBRATE: 1 - fraction}, seed)
    for name, taken in rows.items():
        if not len(taken):
            raise InputError(
                f"the split {name!r} is empty: {len(table)} decodes are too few for a select "
                f"fraction of {fraction:g}. Record more, or change --select-fraction"
            )
    return table.select(rows[SELECT]), table.select(rows[CALIBRATE])


def calibrate_halting(
    select: DenoisingTable,
    calibrate: DenoisingTable,
    terms: Terms,
    shapes: Sequence[HaltingRule] | None = None,
) -> HaltingCalibration:
    """Choose a shape on one split and find its level on the other.

    Parameters
    ----------
    select, calibrate
        Full decodes of one setting, without a common group; those to calibrate on exchangeable
        with the requests to come.
    terms
        What is asked.
    shapes
        To choose from; default: :func:`stopper.halting_shapes.grid`.

    Raises
    ------
    TooFewTraces
        When the promise needs more groups than there are; says how many more.
    InputError
        When the splits share a group or are of different settings, or no candidate of ``mapie``
        can be certified.

    """
    _check_splits(select, calibrate)
    units = units_of(calibrate)
    least = "ltt" if terms.method == "mapie" else terms.method
    require_units(len(units), least, terms.alpha, terms.confidence)
    ranked = choose_shape(select, len(units), terms.alpha, least, terms.confidence, shapes)
    if terms.method == "mapie":
        rule, level, steps, parameters = certify(
            units_of(select), units, ranked, terms.alpha, terms.confidence, terms.correction
        )
        worst = None
    else:
        rule, steps, parameters = ranked[0].rule, ranked[0].steps, {}
        worst = np.sort(worst_scores(scores_of(rule, units), units))
        level = threshold(worst, terms.alpha, terms.method, terms.confidence)
    sizes = np.unique(np.asarray(calibrate.groups, dtype=object), return_counts=True)[1]
    return HaltingCalibration(
        rule=rule,
        level=level,
        terms=terms,
        promise=halting_promise(terms.alpha, terms.method, terms.confidence, len(units)),
        worst_scores=worst,
        n_units=len(units),
        n_traces=len(calibrate),
        n_steps=calibrate.n_steps,
        rollouts=int(sizes.max()),
        expected_steps=steps,
        candidates=tuple(ranked),
        parameters=parameters,
    )


def halting_promise(alpha: float, method: str, confidence: float, n: int) -> str:
    """Word what a halting rule promises, and what it does not."""
    kept = (
        "on average over the draw of the calibration prompts"
        if method == "crc"
        else f"with confidence {confidence:g} over the draw of the calibration prompts"
    )
    return (
        f"Over new requests exchangeable with these {n}, at most {alpha:g} are halted early with "
        "an answer other than the one the full decode would have given (loss 'disagree'), "
        f"{kept}. Not for one given request; not under another model, revision, quantization, "
        "template, sampler setting or task mix."
    )


def to_artifact(
    found: HaltingCalibration,
    select: DenoisingTable,
    calibrate: DenoisingTable,
    valid_days: float | None = None,
) -> Artifact:
    """Put a calibration into an artifact.

    Raises
    ------
    InputError
        If the decodes do not say what they were sampled with.

    """
    now = datetime.now(UTC).replace(microsecond=0)
    settings = calibrate.settings
    record = CalibrationRecord.model_validate(
        {
            "method": found.terms.method,
            "loss": "disagree",
            "alpha": found.terms.alpha,
            "confidence": None if found.terms.method == "crc" else found.terms.confidence,
            "n_units": found.n_units,
            "n_traces": found.n_traces,
            "n_cues": found.n_steps,
            "threshold": found.level,
            "promise": found.promise,
            "rollouts": found.rollouts,
            "parameters": dict(found.parameters),
        }
    )
    engine = settings.get("engine")
    manifest = Manifest(
        created=now,
        expires=None if valid_days is None else now + timedelta(days=valid_days),
        stopper_version=__version__,
        model=fingerprint_of(calibrate),
        halting=HaltingSpec(**found.rule.to_json(), **setting_of(calibrate)),
        calibration=record,
        training={"choice": _choice(found, select)},
        comparer=settings.get("comparer"),
        libraries=versions_used(),
        engine=dict(engine) if isinstance(engine, Mapping) else {},
    )
    tensors: dict[str, npt.NDArray[Any]] = {}
    if found.worst_scores is None:  # the card's file is there in any case: the steps of each shape
        tensors["expected_steps"] = np.array([c.steps for c in found.candidates], np.float64)
    return Artifact(
        manifest,
        worst_scores=found.worst_scores,
        splits={
            SELECT: group_hashes(select.groups),
            CALIBRATE: group_hashes(calibrate.groups),
        },
        calibration_tensors=tensors,
    )


def _check_splits(select: DenoisingTable, calibrate: DenoisingTable) -> None:
    if not len(select) or not len(calibrate):
        empty = SELECT if not len(select) else CALIBRATE
        raise InputError(f"the split {empty!r} has no decode; record some")
    require_disjoint(
        calibrate.groups,
        {SELECT: group_hashes(select.groups)},
        "Record decodes of other prompts, or give one store and --select-fraction",
    )
    DenoisingTable.concat([select.select([0]), calibrate.select([0])])  # refuses other settings


def _choice(found: HaltingCalibration, select: DenoisingTable) -> dict[str, JsonValue]:
    """Tell what was chosen from; `stopper inspect` shows it."""
    return {
        "prompts": len(set(select.groups)),
        "alpha": found.terms.alpha,
        "shapes": len(found.candidates),
        "expected_steps": found.expected_steps,
        "best": [{**c.rule.to_json(), "steps": c.steps} for c in found.candidates[:_SHOWN]],
    }
