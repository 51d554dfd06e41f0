"""``stopper serve``: the sidecar."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    artifact: Annotated[
        list[str] | None,
        typer.Option(help="Calibrated artifact folder; repeatable.", metavar="DIR|MODEL=DIR"),
    ] = None,
    upstream: Annotated[
        list[str] | None,
        typer.Option(
            help="vLLM server behind the OpenAI-compatible front; repeatable.", metavar="URL"
        ),
    ] = None,
    redis: Annotated[
        str | None, typer.Option(help="Redis that all replicas share.", metavar="URL")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one (8080).")] = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings as TOML (docs/sidecar.md).", metavar="FILE")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; several need Redis (1).")] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Tolerated share of bad stops where a request names none.")
    ] = None,
    keys_file: Annotated[
        Path | None, typer.Option(help="API keys (`stopper keys new`).", metavar="FILE")
    ] = None,
    allow_open: Annotated[
        bool | None,
        typer.Option("--allow-open", help="Serve other machines without API keys."),
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(help="json or text (json).", metavar="FORMAT")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error (info).", metavar="LEVEL")
    ] = None,
    otel: Annotated[
        bool | None, typer.Option("--otel", help="Trace requests by OpenTelemetry.")
    ] = None,
    context: Annotated[
        bool | None,
        typer.Option("--context", help="Compress documents (docs/context.md)."),
    ] = None,
    context_artifact: Annotated[
        Path | None,
        typer.Option(help="Sentence filter for --context; default: its own.", metavar="DIR"),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Say what would be served and what is wrong, and end.")
    ] = False,
    openapi: Annotated[
        Path | None,
        typer.Option(help="Write the OpenAPI document and end.", metavar="FILE"),
    ] = None,
) -> None:
    """Serve stop decisions, and an OpenAI-compatible front to vLLM.

    Options beat variables (STOPPER_PORT, STOPPER_LIMITS__DRAIN_S, ...), which beat the file. Keys
    and artifacts are read again when they change (artifacts on SIGHUP); SIGTERM lets running
    requests end.
    """
    # Imported here: `stopper --help` and the other commands need none of it.
    from stopper.errors import UnsupportedError

    try:
        from stopper.service.settings import ServeSettings
    except ModuleNotFoundError as missing:
        raise UnsupportedError(
            f"serving needs {missing.name}; install it with `pip install 'stopper[serve]'`"
        ) from None

    if openapi is not None:
        from calibration.files import replacing
        from stopper.service.openapi import snapshot

        with replacing(openapi) as file:
            file.write(snapshot().encode())
        typer.echo(f"Wrote {openapi}")
        return
    compressing = {"enabled": context, "artifact": context_artifact}
    settings = ServeSettings.read(
        config,
        artifacts=artifact or None,
        upstreams=upstream or None,
        redis=redis,
        host=host,
        port=port,
        workers=workers,
        alpha=alpha,
        keys_file=keys_file,
        allow_open=allow_open,
        log_format=log_format,
        log_level=log_level,
        otel=otel,
        context={name: value for name, value in compressing.items() if value is not None} or None,
    )
    if check:
        _check(settings)
        return
    from stopper.service.launch import launch

    launch(settings)


def _check(settings: object) -> None:
    from stopper.service.examination import examine
    from stopper.service.settings import ServeSettings

    assert isinstance(settings, ServeSettings)
    found = examine(settings)
    for line in found.served:
        typer.echo(f"ok    {line}")
    for line in found.warnings:
        typer.echo(f"warn  {line}")
    for line in found.faults:
        typer.echo(f"FAULT {line}")
    if found.faults:
        raise typer.Exit(2)
    typer.echo(f"would listen on {settings.host}:{settings.port}")
