"""Checks that the licences of all our dependencies are among those that licences.toml allows.

Run by ``make licences`` and by the tests. It asks the installed distributions, so it says what
holds in this environment, for the versions that are here. What a wheel carries inside (compiled
libraries) is only seen as far as the wheel's metadata tell.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FILE = Path(__file__).with_name("licences.toml")
PACKAGE = "stopper"


@dataclass(frozen=True)
class Allowed:
    """What is allowed.

    Attributes
    ----------
    extras
        Of ours, whose requirements are followed.
    licences
        SPDX identifiers.
    names
        Other names of licences to SPDX identifiers.
    exceptions
        Patterns (package, licence) that may stay.

    """

    extras: tuple[str, ...]
    licences: frozenset[str]
    names: Mapping[str, str]
    exceptions: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, file: Path = FILE) -> Allowed:
        """Read the file; an exception without a reason is refused (KeyError, ValueError)."""
        found = tomllib.loads(file.read_text())
        for exception in found["exceptions"]:
            if not exception["reason"].strip():
                raise ValueError(f"{file}: the exception for {exception['package']} has no reason")
        return cls(
            extras=tuple(found["extras"]),
            licences=frozenset(found["allowed"]),
            names=found["names"],
            exceptions=tuple((e["package"], e["licence"]) for e in found["exceptions"]),
        )

    def permits(self, package: str, licence: str) -> bool:
        """Tell whether a package may stay under a licence: an SPDX expression, or whatever it says.

        Of an expression every licence must be allowed, also where it offers a choice.
        """
        if any(fnmatchcase(package, p) and fnmatchcase(licence, q) for p, q in self.exceptions):
            return True
        parts = re.split(r"\s+(?:AND|OR)\s+", licence.replace("(", "").replace(")", ""))
        return set(parts) <= self.licences


def main() -> int:
    """Print every package with its licence and what is wrong; return the exit status."""
    allowed = Allowed.read()
    names, missing = closure(PACKAGE, allowed.extras)
    found = {name: licence_of(metadata.metadata(name), allowed.names) for name in names}
    for name, licence in found.items():
        say(f"{name} {metadata.version(name)}: {licence}")
    problems = [f"{name}: not installed, so not checked" for name in missing]
    problems += refused(found, allowed)
    for problem in problems:
        say(f"error: {problem}")
    say(f"{len(found)} packages, {len(problems)} problems")
    return 1 if problems else 0


def refused(licences: Mapping[str, str], allowed: Allowed) -> list[str]:
    """Return a sentence for every package whose licence is not allowed."""
    return [
        f"{name}: {licence or 'no licence named'}; leave it out, or let {FILE.name} say why not"
        for name, licence in licences.items()
        if not allowed.permits(name, licence)
    ]


def licence_of(about: metadata.PackageMetadata, names: Mapping[str, str]) -> str:
    """Return the licence that a distribution's metadata tell, as SPDX where we know its name.

    An SPDX expression comes first, then the first line of `License` if it is a known name, then the
    classifiers, all of them; else that first line as it is.
    """
    expression = _first_line(about, "License-Expression")
    if expression:
        return expression
    line = _first_line(about, "License")
    if line in names:
        return names[line]
    classifiers = [
        found.rpartition(" :: ")[2]
        for found in about.get_all("Classifier") or ()
        if found.startswith("License :: OSI Approved :: ")
    ]
    known = sorted({names.get(found, found) for found in classifiers})
    return " AND ".join(known) or line


def _first_line(about: metadata.PackageMetadata, field: str) -> str:
    lines = "".join(about.get_all(field) or ()).strip().splitlines()
    return lines[0].strip() if lines else ""


def closure(package: str, extras: Sequence[str]) -> tuple[list[str], list[str]]:
    """Follow the requirements of a package and its extras to the end, in this environment.

    Returns
    -------
    tuple
        Names of the installed distributions without `package` itself, and of those missing; sorted.

    """
    todo = [(package, extra) for extra in ("", *extras)]
    seen: set[tuple[str, str]] = set()
    missing: set[str] = set()
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen or name in missing:
            continue
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            missing.add(name)
            continue
        seen.add((name, extra))
        todo += [pair for line in lines for pair in _wanted(line, extra)]
    return sorted({name for name, _ in seen} - {package}), sorted(missing)


def _wanted(line: str, extra: str) -> Iterator[tuple[str, str]]:
    requirement = Requirement(line)
    if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
        for further in ("", *requirement.extras):
            yield canonicalize_name(requirement.name), further


def say(line: str) -> None:
    """Print a line at once."""
    print("[stopper]", line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
