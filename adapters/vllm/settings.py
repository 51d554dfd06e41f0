"""What the operator asks of the plugin: the `stopper` object in `--additional-config`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stopper.cues import CueSpec
from stopper.errors import InputError


class CollectSettings(BaseModel):
    """Record cues and their hidden states instead of stopping; written by `stopper collect`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: tuple[int, ...] = Field(min_length=1)
    cues: CueSpec


class PluginSettings(BaseModel):
    """The plugin's switch and its dials.

    Attributes
    ----------
    artifact
        Folder that `stopper calibrate` wrote; must exist at the same path on every node.
    alpha
        Tolerated share of badly stopped requests; None takes the artifact's own.
    decisions
        JSONL file that gets one line a finished request; None keeps them in memory only.
    tracker
        "host" reads tokens on the host, "device" never synchronises; "auto" picks host on CPU
        engines and device on accelerators.
    threshold
        A fixed threshold without promise, for requests that ask for mode "fixed"; nothing that was
        calibrated stands behind it. Set by `stopper baselines`, to run LYNX's per-cue rule.
    keep_hidden
        Keep the hidden states at cues until they are asked for; for offline comparison.
    collect
        Set by `stopper collect` only; excludes `artifact`.
    artifact_sha256
        Filled in at start; puts the artifact's content into vLLM's compile-cache key.

    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    artifact: Path | None = None
    alpha: float | None = Field(default=None, gt=0.0, lt=1.0)
    decisions: Path | None = None
    tracker: Literal["auto", "host", "device"] = "auto"
    threshold: float | None = Field(default=None, allow_inf_nan=False)
    keep_hidden: bool = False
    collect: CollectSettings | None = None
    artifact_sha256: str | None = None

    @model_validator(mode="after")
    def _one_purpose(self) -> Self:
        if (self.artifact is None) == (self.collect is None):
            raise ValueError("give 'artifact', the folder that `stopper calibrate` wrote")
        return self

    @classmethod
    def from_additional_config(cls, additional: object) -> PluginSettings | None:
        """Read vLLM's `additional_config`; None where stopper is not asked for.

        Raises
        ------
        InputError
            Unknown keys or bad values, each named with its field.

        """
        raw: Any = additional.get("stopper") if isinstance(additional, dict) else None
        if raw is None:
            return None
        if not isinstance(raw, dict):
            raise InputError(
                f"--additional-config: 'stopper' is {type(raw).__name__}, not an object such as "
                '{"stopper": {"artifact": "DIR", "alpha": 0.05}}'
            )
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc'])) or 'stopper'}: {fault['msg']}"
                for fault in error.errors()
            )
            raise InputError(f"--additional-config stopper: {faults}") from None
