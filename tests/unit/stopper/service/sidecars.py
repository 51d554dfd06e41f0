"""Sidecars for tests: settings, artifacts, replicas in one event loop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from stopper.artifact import Artifact
from stopper.service.app import create_app
from stopper.service.runtime import Runtime
from stopper.service.settings import ArtifactSource, ServeSettings
from stopper.service.store import Store

ARTIFACT = Path(__file__).resolve().parents[4] / "examples" / "tiny_reasoner" / "artifact"
MODEL = "tiny"


def settings(folder: Path = ARTIFACT, **changes: Any) -> ServeSettings:
    """Return settings that serve one artifact as "tiny"."""
    return ServeSettings.read(artifacts=[ArtifactSource(folder=folder, model=MODEL)], **changes)


def another(folder: Path, valid: timedelta = timedelta(days=9)) -> Path:
    """Write the example artifact with another date of expiry: another version of it."""
    loaded = Artifact.load(ARTIFACT)
    expires = datetime.now(UTC) + valid
    Artifact(
        manifest=loaded.manifest.model_copy(update={"expires": expires}),
        probe=loaded.probe,
        cues=loaded.cues,
        worst_scores=loaded.worst_scores,
        splits=loaded.splits,
        calibration_tensors=loaded.calibration_tensors,
    ).save(folder)
    return folder


@contextlib.asynccontextmanager
async def replica(
    chosen: ServeSettings, store: Store | None = None
) -> AsyncIterator[tuple[httpx.AsyncClient, Runtime]]:
    """Run a sidecar in this event loop."""
    runtime = Runtime.from_settings(chosen, store)
    app = create_app(runtime=runtime)
    transport = httpx.ASGITransport(app)
    async with (
        runtime.running(),
        httpx.AsyncClient(transport=transport, base_url="http://sidecar") as client,
    ):
        yield client, runtime
