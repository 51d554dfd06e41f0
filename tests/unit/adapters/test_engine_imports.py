"""What runs in the engine is light, and importing it does not import vLLM."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {
    "sklearn", "mapie", "redis", "pyarrow", "matplotlib", "fastapi", "typer", "transformers",
    "math_verify", "sympy",
}  # fmt: skip
ENGINE_SIDE = (
    "plugin", "install", "session", "watch", "host_tracker", "device_tracker", "rows", "journal",
    "settings", "request_options", "compatibility", "fingerprint", "remote.session",
)  # fmt: skip


def test_the_engine_side_imports_nothing_heavy() -> None:
    statement = "import " + ", ".join(f"adapters.vllm.{name}" for name in ENGINE_SIDE)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", statement],
        capture_output=True,
        text=True,
        check=True,
    )
    found = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert "adapters.vllm.install" in found
    assert {name.split(".")[0] for name in found} & HEAVY == set()
    assert "vllm" not in found
