"""What the operator asks of the plugin: the `stopper` object in `--additional-config`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from stopper.cues import CueSpec
from stopper.errors import InputError

if TYPE_CHECKING:
    from stopper.halting import HaltingRule


class CollectSettings(BaseModel):
    """Record cues and their hidden states instead of stopping; written by `stopper collect`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: tuple[int, ...] = Field(min_length=1)
    cues: CueSpec


class RemoteSettings(BaseModel):
    """Let a sidecar decide (`stopper serve`); the engine finds the cues.

    Attributes
    ----------
    url
        Of the sidecar, such as http://127.0.0.1:8080, without the route's path.
    deadline_ms
        From the cue; a decision that comes later is not carried out.
    api_key_file
        Text file with a key of scope `decide`; None sends none.
    model
        As the sidecar names it; None takes the artifact's.
    queue
        Cues that may wait to be sent; more are lost, and counted.
    same_artifact
        Whether only decisions by the very artifact that the engine loaded are carried out. False
        takes any version, such as one calibrated anew while the engine runs.

    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(pattern=r"^https?://[^/?#@\s]+(/[^?#@\s]*)?$")
    deadline_ms: int = Field(default=100, ge=1, le=60_000)
    api_key_file: Path | None = None
    model: str | None = Field(default=None, min_length=1)
    queue: int = Field(default=512, ge=1, le=65_536)
    same_artifact: bool = True

    @field_validator("url")
    @classmethod
    def _plain_address(cls, value: str) -> str:
        if not value.isascii():
            raise ValueError("write the host in ASCII (xn--...)")
        urlsplit(value).port  # noqa: B018 - a ValueError where it is none
        return value

    def api_key(self) -> str | None:
        """Read the key.

        Raises
        ------
        InputError
            If the file cannot be read or holds no key.

        """
        if self.api_key_file is None:
            return None
        try:
            key = self.api_key_file.read_text(encoding="ascii").strip()
        except OSError as error:
            reason = error.strerror or str(error)
        except UnicodeDecodeError:
            reason = "is not plain ASCII text"
        else:
            if key and key.isprintable() and " " not in key:
                return key
            reason = "does not hold one key and nothing else"
        raise InputError(f"remote.api_key_file: {self.api_key_file}: {reason}")


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
    remote
        Asks a sidecar for the decisions; None decides in the engine.
    collect
        Set by `stopper collect` only; excludes `artifact`.
    halting
        A hand-picked halting rule for a diffusion model instead of an artifact: fields of
        :class:`stopper.halting.HaltingRule`, or a `preset`. It promises nothing.
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
    remote: RemoteSettings | None = None
    collect: CollectSettings | None = None
    halting: dict[str, Any] | None = None
    artifact_sha256: str | None = None

    @model_validator(mode="after")
    def _one_purpose(self) -> Self:
        if sum(one is not None for one in (self.artifact, self.collect, self.halting)) != 1:
            raise ValueError(
                "give 'artifact', the folder that `stopper calibrate` wrote, or for a diffusion "
                "model without a promise 'halting', and only one of them"
            )
        if self.remote is not None and self.collect is not None:
            raise ValueError("remote: nothing is decided while collecting; leave it out")
        if self.remote is not None and self.tracker == "device":
            raise ValueError("remote: cues are sent from the host; leave 'tracker' at \"auto\"")
        if self.remote is not None and self.keep_hidden:
            raise ValueError("remote: hidden states are sent and not kept; leave 'keep_hidden' out")
        return self

    @field_validator("halting")
    @classmethod
    def _known_rule(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None:
            from stopper.halting import HaltingRule

            try:
                HaltingRule.from_json(value)
            except InputError as error:
                raise ValueError(str(error)) from None
        return value

    def halting_rule(self) -> HaltingRule:
        """Return the hand-picked rule, which must be there."""
        from stopper.halting import HaltingRule

        return HaltingRule.from_json(self.halting)

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
