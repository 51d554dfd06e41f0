"""Starts the sidecar: one process, or several."""

from __future__ import annotations

import typer

from stopper.service import workers
from stopper.service.catalog import Catalog
from stopper.service.examination import require_closed
from stopper.service.key_file import read_keys
from stopper.service.server import Server, address, bind, configure
from stopper.service.settings import ServeSettings


def launch(settings: ServeSettings) -> None:
    """Serve until a signal ends it.

    Raises
    ------
    StopperError
        If it cannot start, with the remedy.

    """
    require_closed(settings)
    if settings.keys_file is not None:
        read_keys(settings.keys_file)
    # Refused here, in one line, rather than by each worker.
    catalog = Catalog(settings.artifacts, settings.alpha, settings.artifact_root)
    lines = [f"{served.model} by artifact {served.version}" for served in catalog.all_active()]
    lines += [f"{len(settings.upstreams)} upstreams"] if settings.upstreams else []
    lines += ["context compression"] if settings.context.enabled else []
    bound = bind(settings)

    def ready() -> None:
        typer.echo(f"stopper ready on {address(bound)}: {'; '.join(lines) or 'a schedule'}")

    config = configure(settings)
    if settings.workers > 1:
        workers.run(config, bound, ready)
        return
    server = Server(config, ready)
    server.run([bound])
    if not server.started:
        raise SystemExit(1)  # the log has said why
