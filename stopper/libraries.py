"""Which versions of which libraries made something."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from stopper import __version__

#: Distribution to the module that is loaded once it takes part.
_MODULES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "scikit-learn": "sklearn",
    "mapie": "mapie",
    "torch": "torch",
    "transformers": "transformers",
    "vllm": "vllm",
    "pyarrow": "pyarrow",
}


def versions_used(engine: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Return the versions of stopper and of those libraries that this process has loaded.

    What was imported lazily and never reached took no part, and is not listed. `engine`, of a
    trace store, tells the vLLM that served the traces.
    """
    found = {"stopper": __version__}
    for distribution, module in _MODULES.items():
        if module in sys.modules:
            try:
                found[distribution] = version(distribution)
            except PackageNotFoundError:  # run from a source tree
                found[distribution] = "unknown"
    vllm = (engine or {}).get("vllm")
    if vllm is not None:
        found["vllm"] = vllm
    return found
