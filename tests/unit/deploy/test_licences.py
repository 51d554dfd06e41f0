"""The licences of our dependencies: those installed here, and what the check says of others."""

from __future__ import annotations

import importlib.util
import re
import sys
from email.message import Message
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("licences", ROOT / "deploy" / "licences.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["licences"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


licences = script()
ALLOWED = licences.Allowed.read()


def about(**fields: str) -> Message:
    message = Message()
    for name, value in fields.items():
        message[name.rstrip("_").replace("_", "-")] = value
    return message


def test_every_dependency_that_users_get_stands_under_an_allowed_licence() -> None:
    names, missing = licences.closure("stopper", ALLOWED.extras)
    assert missing == [], "run `make venv`"
    assert {"numpy", "fastapi", "torch", "scikit-learn", "h11"} <= set(names)
    found = {
        name: licences.licence_of(metadata.metadata(name), ALLOWED.names) for name in names
    }  # fmt: skip
    assert licences.refused(found, ALLOWED) == []


def test_every_extra_of_users_is_looked_at() -> None:
    offered = set(metadata.metadata("stopper").get_all("Provides-Extra") or ())
    assert offered - {"dev", "docs"} == set(ALLOWED.extras)


def test_every_name_and_exception_leads_to_spdx_and_tools_of_tests_are_not_followed() -> None:
    assert set(ALLOWED.names.values()) - ALLOWED.licences == {"MPL-2.0"}
    assert all(re.fullmatch(r"[\w.+ -]+", licence) for licence in ALLOWED.licences)
    assert "hypothesis" not in licences.closure("stopper", ALLOWED.extras)[0]  # MPL-2.0


@pytest.mark.parametrize(
    ("package", "licence", "may"),
    [
        ("a", "MIT", True),
        ("a", "Apache-2.0 WITH LLVM-exception AND (MIT OR BSD-3-Clause)", True),
        ("a", "GPL-3.0-only", False),
        ("a", "MIT OR GPL-2.0-or-later", False),
        ("a", "MIT AND LGPL-3.0-only", False),
        ("a", "", False),
        ("a", "MPL-2.0", False),
        ("certifi", "MPL-2.0", True),
        ("certifi", "GPL-3.0-only", False),
        ("nvidia-cublas-cu13", "LicenseRef-NVIDIA-Proprietary", True),
    ],
)
def test_what_may_stay(package: str, licence: str, may: bool) -> None:
    assert ALLOWED.permits(package, licence) is may


def test_a_refusal_names_the_package_its_licence_and_the_file() -> None:
    (said,) = licences.refused({"numpy": "MIT", "readline": "GPL-3.0-only"}, ALLOWED)
    assert said.startswith("readline: GPL-3.0-only;")
    assert "licences.toml" in said


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        ({"License_Expression": "MIT OR Apache-2.0", "License": "MIT"}, "MIT OR Apache-2.0"),
        ({"License": "MIT License\n\nPermission is"}, "MIT"),
        (
            {"License": "Mine", "Classifier": "License :: OSI Approved :: BSD License"},
            "BSD-3-Clause",
        ),
        ({"License": "Mine"}, "Mine"),
        ({"Classifier": "License :: OSI Approved"}, ""),
        ({}, ""),
    ],
    ids=["expression", "name", "classifier", "unknown", "vague", "none"],
)
def test_how_the_licence_is_told(fields: dict[str, str], licence: str) -> None:
    assert licences.licence_of(about(**fields), ALLOWED.names) == licence


def test_requirements_are_followed_by_extra_and_marker() -> None:
    bare, _ = licences.closure("stopper", [])
    served, _ = licences.closure("stopper", ["serve"])
    assert "fastapi" not in bare
    assert {"fastapi", "starlette", "uvloop"} <= set(served)
    _, missing = licences.closure("no-such-package", [])
    assert missing == ["no-such-package"]


def test_an_exception_without_a_reason_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "licences.toml"
    text = (ROOT / "deploy" / "licences.toml").read_text()
    file.write_text(re.sub(r'reason = ".*"', 'reason = " "', text, count=1))
    with pytest.raises(ValueError, match="certifi has no reason"):
        licences.Allowed.read(file)
