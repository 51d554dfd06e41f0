"""Which extra of ours brings a module that is not installed."""

from __future__ import annotations

from importlib.metadata import requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

#: Modules that are not called like their distribution.
_DISTRIBUTIONS = {
    "llama_index": "llama-index-core",
    "opentelemetry": "opentelemetry-sdk",
    "pythonjsonlogger": "python-json-logger",
    "sklearn": "scikit-learn",
}
_DEVELOPMENT = "dev"


def extra_of(module: str) -> str | None:
    """Return the first extra, in the order of pyproject.toml, that brings a module.

    Parameters
    ----------
    module
        As imported, such as "sklearn" or "uvicorn.config".

    Returns
    -------
    str or None
        None if no extra brings it. "dev" is not asked: what only tests need is no user's remedy.

    """
    top = module.split(".")[0]
    distribution = canonicalize_name(_DISTRIBUTIONS.get(top, top))
    for line in requires("stopper") or ():
        requirement = Requirement(line)
        if canonicalize_name(requirement.name) != distribution or requirement.marker is None:
            continue
        extra = _extra_named(str(requirement.marker))
        if extra is not None:
            return extra
    return None


def remedy(missing: ModuleNotFoundError) -> str | None:
    """Say in one sentence what to install for a failed import, None if we do not know it."""
    module = (missing.name or "").split(".")[0]
    extra = extra_of(module)
    if extra is not None:
        return f"this command needs {module}; install it with `pip install 'stopper[{extra}]'`"
    if module == "vllm":
        return "this command needs vLLM; `pip install vllm`, or run `make venv` in a checkout"
    return None


def _extra_named(marker: str) -> str | None:
    """Return the extra of a marker as setuptools writes it, such as ``extra == "serve"``."""
    _, found, rest = marker.partition('extra == "')
    name = rest.partition('"')[0]
    return name if found and name != _DEVELOPMENT else None
