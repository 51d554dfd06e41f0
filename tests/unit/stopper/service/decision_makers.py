"""A sidecar in one event loop, and bodies for its stop-decision endpoint."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import makers
import msgspec
import numpy as np

from stopper.artifact import Artifact
from stopper.service.app import create_app
from stopper.service.catalog import Served
from stopper.service.runtime import Runtime
from stopper.service.settings import ArtifactSource, ServeSettings
from stopper.service.store import Store

MODEL = "org/tiny"
WIDTH = len(makers.LAYERS) * makers.HIDDEN
ROUTE = "/v1/stop-decisions"
FORMS = ("json", "msgpack", "safetensors")
MEDIA = {
    "json": "application/json",
    "msgpack": "application/msgpack",
    "safetensors": "application/vnd.safetensors",
}


class Sidecar:
    """Asks a sidecar from synchronous tests."""

    def __init__(self, runner: asyncio.Runner, runtime: Runtime) -> None:
        self.runner = runner
        self.runtime = runtime
        self.app = create_app(runtime=runtime)
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, raise_app_exceptions=False),
            base_url="http://sidecar",
        )

    def post(self, body: bytes, form: str = "json", **headers: str) -> httpx.Response:
        kind = {"content-type": MEDIA.get(form, form)}
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.runner.run(self._client.post(ROUTE, content=body, headers=kind | sent))

    def ask(self, *events: dict[str, Any], form: str = "json") -> list[dict[str, Any]]:
        """Send a batch, which must be answered by decisions."""
        response = self.post(encoded({"events": list(events)}, form), form)
        assert response.status_code == 200, response.text
        found: list[dict[str, Any]] = response.json()["decisions"]
        return found

    def get(self, path: str) -> httpx.Response:
        return self.runner.run(self._client.get(path))

    def close(self) -> None:
        self.runner.run(self._client.aclose())


@contextlib.contextmanager
def sidecar(
    folder: Path | None, store: Store | None = None, model: str = MODEL, **changes: Any
) -> Iterator[Sidecar]:
    """Run a sidecar that audits nothing unless told to."""
    sources = [] if folder is None else [ArtifactSource(folder=folder, model=model)]
    fields = {"audits": {"share": 0.0}} | changes
    with asyncio.Runner() as runner:
        runtime = Runtime.from_settings(ServeSettings(artifacts=sources, **fields), store)
        inside = runtime.running()
        made = Sidecar(runner, runtime)
        runner.run(inside.__aenter__())
        try:
            yield made
        finally:
            made.close()
            runner.run(inside.__aexit__(None, None, None))


def written(folder: Path, made: Artifact | None = None) -> Path:
    (makers.artifact() if made is None else made).save(folder)
    return folder


def activate(runtime: Runtime, folder: Path) -> Served:
    """Serve another folder from now on."""
    found = Served.read(ArtifactSource(folder=folder, model=MODEL), None)
    runtime.catalog.activate(found)
    return found


def event(position: int, name: str = "trace", **fields: Any) -> dict[str, Any]:
    return {"request_id": name, "model": MODEL, "position": position, **fields}


def state(row: np.ndarray, dtype: str = "float32") -> dict[str, Any]:
    return {"data": packed(row, dtype), "dtype": dtype, "shape": [row.size]}


def packed(values: np.ndarray, dtype: str) -> bytes:
    if dtype == "bfloat16":
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return values.astype({"float16": "<f2", "float32": "<f4"}[dtype]).tobytes()


def as_sent(values: np.ndarray, dtype: str) -> np.ndarray:
    """Return what is left of float32 values in a dtype."""
    if dtype == "bfloat16":
        return (values.astype("<f4").view("<u4") & np.uint32(0xFFFF0000)).view("<f4")
    return values.astype(dtype).astype(np.float32)


def encoded(value: dict[str, Any], form: str = "json") -> bytes:
    """Encode one event or a batch."""
    if form == "json":
        return msgspec.json.encode(value)
    if form == "msgpack":
        return msgspec.msgpack.encode(value)
    events: Sequence[dict[str, Any]] = value.get("events", [value])
    states = [one["hidden_state"] for one in events]
    bare = [{k: v for k, v in one.items() if k != "hidden_state"} for one in events]
    text = msgspec.json.encode(bare if "events" in value else bare[0]).decode()
    data = b"".join(one["data"] for one in states)
    dtype = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}[states[0]["dtype"]]
    shape = [len(states), states[0]["shape"][-1]]
    return safetensors({"events" if "events" in value else "event": text}, dtype, shape, data)


def safetensors(
    metadata: dict[str, str], dtype: str, shape: list[int], data: bytes, name: str = "hidden_states"
) -> bytes:
    """Write a file by hand: the library writes no bfloat16 from numpy."""
    tensor = {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}
    header = msgspec.json.encode({"__metadata__": metadata, name: tensor})
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data
