"""Checks that our four top-level packages are ours: their names are generic enough to clash.

Imports the standard library only, since with an intruder about our own imports may fail.
"""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.metadata import packages_distributions as distributions_by_package
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("probes", "calibration", "stopper", "adapters")
HOME = Path(__file__).resolve().parents[1]
"""Folder that holds all four, in a checkout (editable install) and in site-packages alike."""


@dataclass(frozen=True, slots=True)
class Clash:
    """A package of ours that Python would load from, or that has been overwritten by, another.

    Attributes
    ----------
    package
        Our package's name.
    found
        The intruder's file or folder; empty where the package cannot be found at all.
    owner
        The distribution that the intruder belongs to, where that is known.

    """

    package: str
    found: str
    owner: str | None = None

    def __str__(self) -> str:
        """Return who the intruder is and how to get rid of it."""
        if not self.found:
            return f"package {self.package!r} cannot be imported; install stopper again"
        if self.owner is not None:
            return (
                f"package {self.package!r} is {self.found} of the distribution {self.owner!r}; "
                f"`pip uninstall {self.owner}`, install stopper again, or give each an "
                "environment of its own"
            )
        return (
            f"package {self.package!r} is {self.found} and not stopper's; rename it, or start "
            "from another folder and without it in PYTHONPATH"
        )


def verify_own_packages() -> None:
    """Refuse to go on with somebody else's package under one of our names.

    Raises
    ------
    UnsupportedError
        Names the intruder's file and how to get rid of it. Where the intruder hides that class, a
        RuntimeError says the same.

    """
    clashes = find_clashes()
    if not clashes:
        return
    message = "; ".join(map(str, clashes))
    try:
        from stopper.errors import UnsupportedError
    except ImportError:
        raise RuntimeError(message) from None
    raise UnsupportedError(message)


def find_clashes(
    home: Path = HOME,
    locate: Callable[[str], ModuleSpec | None] | None = None,
    owners: Callable[[], Mapping[str, list[str]]] = distributions_by_package,
) -> list[Clash]:
    """Return the packages of ours that are not ours.

    Parameters
    ----------
    home
        Folder in which they belong.
    locate
        Finds what an import would load; Python's own machinery by default.
    owners
        Tells which distributions install which package; asked only where there is a clash.

    """
    clashes = []
    for package in PACKAGES:
        found = _location(package, locate or _locate)
        if found is None or not _same(found, home / package):
            clashes.append(_clash(package, found, owners))
        elif _overwritten(home / package / "__init__.py", package):
            clashes.append(_clash(package, home / package / "__init__.py", owners))
    return clashes


def _locate(package: str) -> ModuleSpec | None:
    loaded = sys.modules.get(package)  # what is loaded counts, not what would be
    return find_spec(package) if loaded is None else loaded.__spec__


def _location(package: str, locate: Callable[[str], ModuleSpec | None]) -> Path | None:
    """Return the package's folder, or the file of a module that takes its name."""
    spec = locate(package)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin else None


def _same(found: Path, expected: Path) -> bool:
    return found.resolve() == expected.resolve()


def _overwritten(file: Path, package: str, name: str = "stopper") -> bool:
    """Tell whether another wheel, installed later, has replaced this file of our wheel."""
    try:
        own: Distribution = distribution(name)
    except PackageNotFoundError:
        return False  # run from a checkout
    for entry in own.files or []:
        if entry.as_posix() == f"{package}/__init__.py" and entry.hash is not None:
            digest = hashlib.new(entry.hash.mode, file.read_bytes()).digest()
            return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != entry.hash.value
    return False  # an editable install lists no files of ours


def _clash(
    package: str, found: Path | None, owners: Callable[[], Mapping[str, list[str]]]
) -> Clash:
    others = [name for name in owners().get(package, []) if name != "stopper"]
    installed = found is not None and any(
        part in ("site-packages", "dist-packages") for part in found.parts
    )
    return Clash(package, str(found or ""), others[0] if others and installed else None)
