"""The entry points that vLLM and SGLang load in every process.

They live here and import nothing of ours at the top: should another distribution's package named
`adapters`, `probes` or `calibration` come first on the path, the engine would report a failed
plugin and serve on without it. So the check comes before the imports that it guards, and its error
reaches the operator.
"""

from __future__ import annotations

import importlib

from stopper.packages import verify_own_packages


def register() -> None:
    """Check that our packages are ours, then register the vLLM plugin."""
    verify_own_packages()
    importlib.import_module("adapters.vllm.plugin").register()


def register_sglang() -> None:
    """Check that our packages are ours, then add our algorithm to SGLang's."""
    verify_own_packages()
    importlib.import_module("adapters.sglang.plugin").register()
