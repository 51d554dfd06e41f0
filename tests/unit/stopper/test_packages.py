"""Name clashes of our four packages, tried with real intruders on Python's path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import stopper.errors
from stopper import packages
from stopper.packages import HOME, PACKAGES, Clash, find_clashes, verify_own_packages


def run(code: str, cwd: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True
    )


CHECK = (
    "import importlib.util as u, sys\n"
    f"spec = u.spec_from_file_location('packages', {packages.__file__!r})\n"
    "module = sys.modules['packages'] = u.module_from_spec(spec)\n"
    "spec.loader.exec_module(module)\n"
    "module.verify_own_packages()\n"
)  # as the plugin does, but reachable although our own packages are hidden


def test_our_own_packages_pass() -> None:
    verify_own_packages()
    assert find_clashes() == []


@pytest.mark.parametrize("package", PACKAGES)
def test_an_intruder_is_named(package: str, tmp_path: Path) -> None:
    intruder = tmp_path / "elsewhere" / package
    intruder.mkdir(parents=True)
    (intruder / "__init__.py").write_text("")
    done = run(CHECK, tmp_path, tmp_path / "elsewhere", HOME)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert f"package '{package}' is {intruder} and not stopper's; rename it" in last


def test_a_module_of_our_name_is_named(tmp_path: Path) -> None:
    (tmp_path / "probes.py").write_text("")
    done = run(CHECK, tmp_path, HOME)  # `python -c` looks into the working folder first
    assert f"package 'probes' is {tmp_path / 'probes.py'}" in done.stderr


def test_a_checkout_on_the_path_passes(tmp_path: Path) -> None:
    assert run(CHECK, tmp_path, HOME).returncode == 0


def test_what_is_missing_is_said() -> None:
    clashes = find_clashes(locate=lambda package: None)
    assert [clash.package for clash in clashes] == list(PACKAGES)
    assert "cannot be imported; install stopper again" in str(clashes[0])


def test_the_distribution_of_an_intruder_is_named(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    clashes = find_clashes(home=site, owners=lambda: {"adapters": ["stopper", "adapters-hub"]})
    by_name = {clash.package: clash for clash in clashes}
    assert by_name["probes"].owner is None
    text = str(Clash("adapters", str(site / "adapters"), "adapters-hub"))
    assert "of the distribution 'adapters-hub'; `pip uninstall adapters-hub`" in text


def test_the_error_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_clashes", lambda: [Clash("probes", "/x/probes")])
    with pytest.raises(stopper.errors.UnsupportedError, match="/x/probes"):
        verify_own_packages()
    monkeypatch.setitem(sys.modules, "stopper.errors", None)  # hidden by the intruder
    with pytest.raises(RuntimeError, match="/x/probes"):
        verify_own_packages()


def test_a_wheel_whose_files_were_overwritten_is_found(tmp_path: Path) -> None:
    """Two wheels that install the same package: the later one wins, file by file."""
    site = tmp_path / "site-packages"
    info = site / "stopper-9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stopper\nVersion: 9\n")
    empty_sha256 = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    rows = []
    for package in PACKAGES:
        (site / package).mkdir()
        (site / package / "__init__.py").write_text("")
        rows.append(f"{package}/__init__.py,sha256={empty_sha256},0")
    (info / "RECORD").write_text("\n".join(rows))
    code = (
        CHECK.replace("module.verify_own_packages()", "")
        + "import pathlib\n"
        + f"home = pathlib.Path({str(site)!r})\n"
        + "print([clash.found for clash in module.find_clashes(home)])\n"
    )
    assert run(code, tmp_path, site).stdout.strip() == "[]"
    (site / "probes" / "__init__.py").write_text("intruder = True\n")
    found = run(code, tmp_path, site).stdout.strip()
    assert found == str([str(site / "probes" / "__init__.py")])


def test_the_entry_point_names_an_intruder_before_importing_the_adapter(tmp_path):
    # Should `adapters` be another's, vLLM would only log a failed plugin and serve on without it.
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "__init__.py").write_text("")
    done = run("import stopper.entry as e; e.register()", tmp_path, tmp_path, HOME)
    assert done.returncode != 0
    assert str(tmp_path / "adapters") in done.stderr
