"""The artifact's card: what was measured, on what, and what it promises."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, Field, JsonValue, model_validator

from calibration.profile import Profile
from probes.errors import InputError
from probes.provenance import Closing, ModelFingerprint
from probes.spec import ProbeSpec
from probes.validation import Count, Finite, Flag, Positive, Real, Record, Sha256, Text
from stopper.cues import CueSpec
from stopper.halting import HaltingRule

SCHEMA_VERSION: Literal[2] = 2

Share = Annotated[float, Field(strict=True, gt=0.0, lt=1.0)]


class CalibrationRecord(Record):
    """How the threshold was found and what it promises.

    Attributes
    ----------
    method
        "ltt": holds with ``confidence`` over the calibration draw. "crc": holds on average over
        it. "lynx": LYNX's per-cue rule, the baseline; it promises nothing per trace. "mapie":
        shape and level of a halting rule were found together, under a correction for their
        number; holds with ``confidence`` for this ``alpha`` alone. "hcp": of a sentence filter,
        holds on average for queries of new articles, see :mod:`calibration.hierarchical`.
    loss
        "disagree", "wrong" or "harm"; of a sentence filter "dropped".
    alpha
        Share of requests that may be stopped badly, at which ``threshold`` was taken. Any other
        alpha is answered exactly from the stored scores.
    n_units, n_traces, n_cues
        Prompts, traces and cues (of a halting rule: denoising steps; of a sentence filter:
        queries, queries and sentences) calibrated on; the promise counts prompts.
    threshold
        Stop iff float32(score) > float32(threshold). -inf: stop at the first cue. Of a sentence
        filter: a sentence is dropped iff float32(-logit) > float32(threshold).
    promise
        The statement to print.
    rollouts
        Most traces of one prompt.
    rule, parameters
        Name of the stopping rule in :mod:`calibration.rules` and what it was fitted to;
        "level" is the plain threshold.

    """

    method: Literal["ltt", "crc", "lynx", "mapie", "hcp"]
    loss: Literal["disagree", "wrong", "harm", "dropped"]
    alpha: Share
    confidence: Share | None = None
    n_units: Positive
    n_traces: Positive
    n_cues: Count
    threshold: Real
    promise: Text
    rollouts: Positive = 1
    rule: Text = "level"
    parameters: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.method in ("ltt", "mapie") and self.confidence is None:
            raise ValueError(f"confidence: method {self.method} needs one")
        return self


class SamplerSpec(Record):
    """How a diffusion LM was decoded; the promise of a halting rule holds for this setting alone.

    Attributes
    ----------
    steps
        Denoising steps of a block (of the whole canvas, where it is one block).
    block_length, canvas_length
        Tokens decided together, and in all.
    order
        Which positions are unmasked first, for example "confidence" or "entropy".
    options
        Whatever else the sampler was set to.

    """

    steps: Positive
    block_length: Positive
    canvas_length: Positive
    order: Text
    options: dict[str, JsonValue] = Field(default_factory=dict)

    def mismatches(self, other: SamplerSpec) -> list[str]:
        """Return one phrase per setting in which ``other`` decodes otherwise."""
        return [
            f"{name} is {getattr(other, name)!r}, expected {getattr(self, name)!r}"
            for name in type(self).model_fields
            if getattr(self, name) != getattr(other, name)
        ]


class HaltingSpec(Record):
    """When the denoising of a diffusion LM is halted; its level is the calibration's threshold.

    Attributes
    ----------
    kind, high, low, rate, aggregate, region, stable_argmax
        The shape, see :class:`stopper.halting.HaltingRule`.
    progress
        "block": i / (T - 1) over the T steps of each block. "canvas": over those of the request.
    sampler
        The setting it was recorded under.

    """

    kind: Text
    high: Finite
    low: Finite
    rate: Finite
    aggregate: Text
    region: Text
    stable_argmax: Flag = False
    progress: Literal["block", "canvas"] = "block"
    sampler: SamplerSpec

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        try:
            self.rule()
        except InputError as problem:
            raise ValueError(str(problem)) from None
        return self

    def rule(self) -> HaltingRule:
        """Return the rule, to be asked with the level of an alpha."""
        return HaltingRule.from_json(self.model_dump(exclude={"progress", "sampler"}))


class ContextSpec(Record):
    """What the scores of a sentence filter come from; its promise holds for this and no other.

    Attributes
    ----------
    encoder
        What the body is called.
    encoder_sha256, tokenizer_sha256
        Of the body's ``model.safetensors`` and ``tokenizer.json``.
    features
        Version of :mod:`probes.sentence_features`; the artifact's probe is the head that reads
        them, its one "layer".
    splitter
        How documents were split into sentences, for example "spacy".
    scope
        "together": a sentence is scored in relation to all documents of its query.

    """

    encoder: Text
    encoder_sha256: Sha256
    tokenizer_sha256: Sha256
    features: Text
    splitter: Text
    scope: Literal["together"] = "together"

    def mismatches(self, identity: Mapping[str, str]) -> list[str]:
        """Return one phrase per field in which a scorer's identity is another."""
        return [
            f"{name} is {theirs}, expected {getattr(self, name)}"
            for name, theirs in identity.items()
            if getattr(self, name) != theirs
        ]


class Manifest(Record):
    """Everything in an artifact that is not an array.

    ``probe``, ``cues``, ``model`` and ``closing`` are None in an artifact made from a user's own
    scores; ``calibration`` is None until ``stopper calibrate`` has run. ``comparer`` names how
    answers were compared (None: unknown, or a user's own labels), ``libraries`` the versions it
    was made with, ``engine`` what served the traces, ``profile`` what the calibration traffic
    looked like. Schema 1 had none of these. ``halting`` is that of a diffusion LM, which has
    neither ``probe`` nor ``cues``; ``context`` that of a sentence filter, whose ``probe`` is its
    head.
    """

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    created: AwareDatetime
    expires: AwareDatetime | None = None
    stopper_version: Text
    model: ModelFingerprint | None = None
    probe: ProbeSpec | None = None
    cues: CueSpec | None = None
    closing: Closing | None = None
    sampling: dict[str, JsonValue] = Field(default_factory=dict)
    calibration: CalibrationRecord | None = None
    training: dict[str, JsonValue] = Field(default_factory=dict)
    files: dict[str, Sha256] = Field(default_factory=dict)
    comparer: Text | None = None
    libraries: dict[str, Text] = Field(default_factory=dict)
    engine: dict[str, Text | None] = Field(default_factory=dict)
    profile: Profile | None = None
    halting: HaltingSpec | None = None
    context: ContextSpec | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.expires is not None and self.expires <= self.created:
            raise ValueError("expires: must be later than created")
        if self.halting is not None and (self.probe is not None or self.cues is not None):
            raise ValueError("halting: a halting rule has neither probe nor cues")
        self._check_context()
        method = None if self.calibration is None else self.calibration.method
        if method == "mapie" and self.halting is None:
            raise ValueError("calibration.method: mapie is for halting rules alone")
        if method == "hcp" and self.context is None:
            raise ValueError("calibration.method: hcp is for sentence filters alone")
        if method == "lynx" and self.halting is not None:
            raise ValueError("calibration.method: lynx is for cues, not for halting rules")
        if self.probe is not None and self.model is not None:
            if self.probe.hidden_size != self.model.hidden_size:
                raise ValueError(
                    f"probe.hidden_size: {self.probe.hidden_size}, but the model's is "
                    f"{self.model.hidden_size}"
                )
            if self.probe.layers[-1] > self.model.num_layers:
                raise ValueError(
                    f"probe.layers: {self.probe.layers[-1]} is beyond the model's "
                    f"{self.model.num_layers} layers"
                )
        return self

    def _check_context(self) -> None:
        loss = None if self.calibration is None else self.calibration.loss
        if self.context is None:
            if loss == "dropped":
                raise ValueError("calibration.loss: dropped is for sentence filters alone")
            return
        if self.probe is None:
            raise ValueError("context: a sentence filter needs its head as probe")
        if self.cues is not None or self.halting is not None or self.model is not None:
            raise ValueError("context: a sentence filter has neither model, cues nor halting rule")
        if loss not in (None, "dropped"):
            raise ValueError(f"calibration.loss: {loss} is of stops; a sentence filter has dropped")

    def expired(self, now: datetime) -> bool:
        """Return whether the promise has run out at ``now`` (an aware time)."""
        return self.expires is not None and now >= self.expires


def digest(fields: dict[str, Any]) -> str:
    """Return the SHA-256 of a manifest's fields as canonical JSON, without its own digest."""
    rest = {name: value for name, value in fields.items() if name != "digest"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def dump(manifest: Manifest) -> bytes:
    """Write a manifest as JSON with its digest, readable and ending in a newline."""
    # Through JSON text: only there does pydantic spell infinities as strings.
    fields = json.loads(manifest.model_dump_json())
    fields["digest"] = digest(fields)
    return (json.dumps(fields, indent=2, ensure_ascii=False) + "\n").encode()
