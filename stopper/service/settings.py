"""What the operator configures: flags beat `STOPPER_...` variables beat the configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from stopper.errors import InputError
from stopper.service.setting_groups import (
    ArtifactSource,
    AuditSettings,
    ContextSettings,
    LimitSettings,
    ProxySettings,
    ScheduleSettings,
    Seconds,
    Share,
    Upstream,
)

__all__ = [
    "ArtifactSource",
    "AuditSettings",
    "ContextSettings",
    "LimitSettings",
    "ProxySettings",
    "ScheduleSettings",
    "ServeSettings",
    "Upstream",
]


class ServeSettings(BaseSettings):
    """The sidecar's settings.

    Attributes
    ----------
    artifacts
        Each model is served by one; as an option `DIR` or `MODEL=DIR`.
    artifact_root
        Folder below which artifacts are loaded at run time; left out: the one that
        holds the first.
    alpha
        Tolerated share of bad stops of requests that name none; left out: each artifact's own.
    upstreams
        Without one the OpenAI-compatible front is off.
    redis
        URL of a Redis server that all replicas share; left out: everything stays in this
        process.
    redis_prefix
        Of all keys in Redis.
    redis_timeout_s
        How long one call to Redis may take before it fails open.
    trace_ttl_s
        A trace not heard of for so long is forgotten.
    most_traces
        Held in memory where there is no Redis.
    host
        Address to listen on.
    port
        0 takes a free one.
    workers
        Processes; more than one needs Redis.
    keys_file
        API keys, hashed (`stopper keys new`); without it the sidecar is open, and then it binds to
        loopback only unless `allow_open`.
    allow_open
        Serve other machines without keys.
    schedule
        Hand-picked, for logit margins of models without an artifact; promises nothing.
    proxy, audits, limits, context
        Groups, see there.
    log_format
        One JSON object a line, or text for people.
    log_level
        From which level on.
    otel
        A span for each request, by OpenTelemetry (extra `otel`).

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
