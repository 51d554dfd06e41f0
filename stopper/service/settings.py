"""What the operator configures: flags beat `STOPPER_...` variables beat the configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from stopper.errors import InputError

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ArtifactSource(_Group):
    """A folder that `stopper calibrate` wrote, and the model it serves (None: as it says itself).

    In flags and variables: `DIR` or `MODEL=DIR`.
    """

    folder: Path
    model: str | None = None


class Upstream(_Group):
    """A vLLM server, such as http://127.0.0.1:8000 (without /v1)."""

    url: Annotated[str, Field(pattern=r"^https?://[^/\s]+(/[^\s]*)?$")]
    api_key_file: Path | None = None


class ScheduleSettings(_Group):
    """SchED's threshold over progress, for events that carry logit margins (arXiv 2512.02892)."""

    kind: Literal["linear", "cosine", "exponential", "thirds"] = "exponential"
    high: float = 7.5
    low: float = 2.5
    rate: Annotated[float, Field(gt=0)] = 16.0


class ProxySettings(_Group):
    """Timeouts (seconds), retries and the breaker of the OpenAI-compatible front."""

    connect_s: Seconds = 2.0
    first_byte_s: Seconds = 600.0
    idle_s: Seconds = 120.0
    report_s: Seconds = 1.0
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    breaker_failures: Annotated[int, Field(ge=1)] = 5
    breaker_reset_s: Seconds = 10.0


class AuditSettings(_Group):
    """Which share of requests is audited, and the alarm's error rate (docs/monitoring.md)."""

    share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.02
    method: str = "betting"
    delta: Share = 0.01
    log: Path | None = None


class ContextSettings(_Group):
    """Compression of retrieved documents (docs/context.md).

    Attributes
    ----------
    enabled
        Off: nothing of it is loaded.
    scorer, artifact
        "encoder" with an artifact (None: the one that comes along), or "overlap".
    alpha, threshold
        Of requests that name neither; None takes the artifact's own.
    floor
        Sentences that are kept at least.
    most_documents, timeout_s
        Of one request.

    """

    enabled: bool = False
    scorer: Literal["encoder", "overlap"] = "encoder"
    artifact: Path | None = None
    threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None
    alpha: Share | None = None
    floor: Annotated[int, Field(ge=0)] = 0
    most_documents: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    timeout_s: Seconds = 10.0


class LimitSettings(_Group):
    """Bounds on what a client may send."""

    body_bytes: Annotated[int, Field(ge=1024)] = 16 << 20
    header_s: Seconds = 10.0
    body_s: Seconds = 30.0
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    concurrency: Annotated[int, Field(ge=1)] = 1024
    drain_s: Seconds = 60.0


class ServeSettings(BaseSettings):
    """The sidecar's settings.

    Attributes
    ----------
    artifacts
        One or more; each model is served by one.
    alpha
        Tolerated share of bad stops of requests that name none; None takes each artifact's own.
    upstreams
        Without one the OpenAI-compatible front is off.
    redis
        URL of a Redis server that all replicas share; None keeps everything in this process.
    redis_prefix, redis_timeout_s
        Of all its keys; and how long one call may take before it fails open.
    workers
        Processes; more than one needs Redis.
    keys_file
        API keys, hashed (`stopper keys new`); without it the sidecar is open, and then it binds to
        loopback only unless `allow_open`.

    """

    model_config = SettingsConfigDict(
        env_prefix="STOPPER_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    artifacts: Annotated[tuple[ArtifactSource, ...], NoDecode] = ()
    artifact_root: Path | None = None
    alpha: Share | None = None
    upstreams: Annotated[tuple[Upstream, ...], NoDecode] = ()
    redis: str | None = None
    redis_prefix: Annotated[str, Field(pattern=r"^[\w.:-]+$")] = "stopper"
    redis_timeout_s: Seconds = 0.25
    trace_ttl_s: Seconds = 3600.0
    most_traces: Annotated[int, Field(ge=1)] = 100_000
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    workers: Annotated[int, Field(ge=1)] = 1
    keys_file: Path | None = None
    allow_open: bool = False
    schedule: ScheduleSettings | None = None
    proxy: ProxySettings = ProxySettings()
    audits: AuditSettings = AuditSettings()
    limits: LimitSettings = LimitSettings()
    context: ContextSettings = ContextSettings()
    log_format: Literal["json", "text"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    otel: bool = False

    @field_validator("artifacts", mode="before")
    @classmethod
    def _read_artifacts(cls, value: Any) -> Any:
        return [_artifact(part) if isinstance(part, str | Path) else part for part in _many(value)]

    @field_validator("upstreams", mode="before")
    @classmethod
    def _read_upstreams(cls, value: Any) -> Any:
        return [
            {"url": part.rstrip("/")} if isinstance(part, str) else part for part in _many(value)
        ]

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.workers > 1 and self.redis is None:
            raise ValueError(
                "workers: several processes need a shared store; give redis, or workers = 1"
            )
        alone = self.schedule is not None or self.upstreams or self.context.enabled
        if not self.artifacts and not alone:
            raise ValueError("artifacts: give --artifact DIR, that `stopper calibrate` wrote")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: flags, variables, file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @classmethod
    def read(cls, file: Path | None = None, **flags: Any) -> Self:
        """Read the settings; flags that are None are not given.

        Raises
        ------
        InputError
            Naming each wrong field.

        """
        given = {name: value for name, value in flags.items() if value is not None}

        class FromFile(cls):  # type: ignore[valid-type,misc]
            model_config = SettingsConfigDict(toml_file=file)

        try:
            if file is not None and not file.is_file():
                raise InputError(f"{file}: there is no such configuration file")
            found = FromFile(**given)
            return cls.model_construct(**{name: getattr(found, name) for name in cls.model_fields})
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc'])) or 'settings'}: "
                f"{fault['msg'].removeprefix('Value error, ')}"
                for fault in error.errors()
            )
            raise InputError(f"settings: {faults}") from None
        except ValueError as error:  # not TOML
            raise InputError(f"{file}: {error}") from None


def _many(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [part for part in value.split(",") if part]
    return list(value) if isinstance(value, list | tuple) else [value]


def _artifact(text: str | Path) -> dict[str, Any]:
    model, mark, folder = str(text).rpartition("=")
    return {"folder": folder, "model": model} if mark else {"folder": str(text)}
