"""Which SGLang this adapter was made for. Pure."""

from __future__ import annotations

import importlib.metadata

from packaging.version import InvalidVersion, Version

from stopper.errors import UnsupportedError

SUPPORTED_SGLANG = (Version("0.5.17"), Version("0.5.24"))


def require_sglang(version: str | None) -> None:
    """Refuse an SGLang whose inner interface this adapter does not know.

    Parameters
    ----------
    version
        Installed; None where there is none.

    Raises
    ------
    UnsupportedError
        Naming the versions that are known.

    """
    low, high = SUPPORTED_SGLANG
    if version is None:
        raise UnsupportedError(
            f"SGLang is not installed; install {low} or later, below {high} (it needs a GPU build)"
        )
    try:
        known = low <= Version(Version(version).base_version) < high
    except InvalidVersion:  # built from source without its history
        known = False
    if not known:
        raise UnsupportedError(
            f"SGLang {version} is outside {low} <= version < {high}: a denoising algorithm's "
            "step() changes between versions and is known for these alone; install one of them"
        )


def installed_sglang() -> str | None:
    """Return the installed version of SGLang; None without one."""
    try:
        return importlib.metadata.version("sglang")
    except importlib.metadata.PackageNotFoundError:
        return None
