"""What the files in deploy/ may count on, read from the code."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
from pathlib import Path

from stopper.commands.serve import serve
from stopper.service.openapi import snapshot
from stopper.service.settings import ServeSettings

ROOT = Path(__file__).resolve().parents[3]
PORT = int(ServeSettings.model_fields["port"].default)
ROUTES = frozenset(json.loads(snapshot())["paths"])
OPTIONS = frozenset(f"--{name.replace('_', '-')}" for name in inspect.signature(serve).parameters)
ENGINE_HEALTH = "/health"


def variables() -> frozenset[str]:
    """Return every variable that sets something, with the groups' own."""
    found = set()
    for name, field in ServeSettings.model_fields.items():
        group = getattr(field.annotation, "model_fields", None)
        found |= {f"{name}__{inner}" for inner in group or ()} or {name}
    return frozenset(f"STOPPER_{name.upper()}" for name in found)


def engine_port() -> int:
    """Return the port that vLLM takes if it is told none, from its source."""
    [file] = _engine().glob("*/cli_args.py")
    [found] = re.findall(r"^    port: int = (\d+)$", file.read_text("utf-8"), re.MULTILINE)
    return int(found)


def engine_answers(path: str) -> bool:
    """Tell whether vLLM's server has a route."""
    files = (_engine() / "serve" / "instrumentator").glob("*.py")
    return any(f'router.get("{path}"' in file.read_text("utf-8") for file in files)


def _engine() -> Path:
    spec = importlib.util.find_spec("vllm")  # not imported: that takes seconds
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "entrypoints"


def drain_seconds() -> float:
    """Return how long the sidecar lets requests end, if it is told nothing."""
    return ServeSettings.model_fields["limits"].default.drain_s


ENGINE_PORT = engine_port()
