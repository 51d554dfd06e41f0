"""The wheel alone, in an environment that has nothing else, calibrates and serves.

Builds the source distribution and from it the wheel, in a copy of the checkout: the folder
`stopper.egg-info` is read by other tests meanwhile.
"""

from __future__ import annotations

import contextlib
import email
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.servers import until

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STEM = f"stopper-{PROJECT['version']}"
PACKAGES = ("adapters", "stopper", "calibration", "probes")
DATA = {  # files that are no Python
    "calibration/page/template/report.html",
    "calibration/page/template/report.css",
    "stopper/service/page/page.html",
    "stopper/service/page/page.css",
    "stopper/service/page/page.js",
    "stopper/relevance/weights/manifest.json",
    "stopper/relevance/weights/probe.safetensors",
    "stopper/scripted/default.toml",
    *(f"{package}/py.typed" for package in PACKAGES),
}
EXTRAS = "serve,calibrate"
NEEDY = {  # commands, and what they must name where no extra is installed
    "serve": "stopper[serve]",
    "scripted": "stopper[serve]",
    "diffusion collect x --prompts y --out z": "stopper[vllm]",
    "compress documents --query y": "stopper[rag]",
}
START_S = 180.0


class Environment:
    """A virtual environment in a folder away from the checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"  # where its programs run
        self.folder.mkdir()
        self.bin = folder / "venv" / "bin"
        # pip comes from outside, which saves installing it.
        command = [sys.executable, "-m", "venv", "--without-pip", self.bin.parent]
        subprocess.run(command, check=True)
        self.variables = {
            name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
        }

    def install(self, requirement: str) -> None:
        """Install by pip and say its lines if that fails."""
        pip = [sys.executable, "-m", "pip", "--python", str(self.bin / "python")]
        done = subprocess.run(
            [*pip, "install", "-q", "--no-compile", requirement],
            env=self.variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of its programs to the end."""
        return subprocess.run(
            [str(self.bin / program), *arguments],
            cwd=self.folder, env=self.variables, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def stopper(self, *arguments: str) -> str:
        """Run the command, which must succeed, and return what it prints."""
        done = self.run("stopper", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refused(self, *arguments: str) -> str:
        """Run the command, which must be refused without a traceback, and return its sentence."""
        done = self.run("stopper", *arguments)
        assert done.returncode == 2, done.stdout + done.stderr
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        return lines[0]

    @contextlib.contextmanager
    def running(self, ready: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
        """Run `stopper` beside us until the end; hand out its process and the URL after `ready`."""
        log = self.folder / f"{arguments[0]}.log"
        with log.open("wb") as lines:
            process = subprocess.Popen(
                [self.bin / "stopper", *arguments],
                cwd=self.folder, env=self.variables, stdout=lines, stderr=lines,
            )  # fmt: skip
        try:
            pattern = re.compile(rf"{ready} (http://[0-9.]+:\d+)")
            until(
                lambda: pattern.search(log.read_text()) or process.poll() is not None,
                f"stopper {arguments[0]}",
                START_S,
            )
            found = pattern.search(log.read_text())
            assert found is not None, log.read_text()
            yield process, found[1]
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the source distribution and the wheel, as `make dist` makes them."""
    folder = tmp_path_factory.mktemp("dist")
    copy = folder / "checkout"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "build", "dist", "*.egg-info"))
    done = subprocess.run(
        # Not isolated: the build needs nothing but setuptools, which is here.
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, copy],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return dist / f"{STEM}-py3-none-any.whl"


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return an environment with the wheel and no extra."""
    environment = Environment(tmp_path_factory.mktemp("clean"))
    environment.install(str(wheel))
    return environment


@pytest.fixture(scope="module")
def without_extras(bare: Environment) -> dict[str, str]:
    """Return what commands say that lack an extra, by command; before `clean` brings extras."""
    (bare.folder / "documents").write_text('{"title": "One", "text": "A sentence. Another."}\n')
    return {command: bare.refused(*command.split()) for command in NEEDY}


@pytest.fixture(scope="module")
def clean(bare: Environment, wheel: Path, without_extras: dict[str, str]) -> Environment:
    """Return the environment with what serving and calibrating need, and neither vLLM nor torch."""
    assert without_extras
    bare.install(f"{wheel}[{EXTRAS}]")
    return bare


@pytest.fixture(scope="module")
def artifact(clean: Environment) -> str:
    """Return the name of an artifact that the wheel has calibrated."""
    clean.stopper("simulate", "--out", "all.jsonl", "--traces", "500", "--seed", "1")
    lines = (clean.folder / "all.jsonl").read_text().splitlines(keepends=True)
    prompts = list(dict.fromkeys(json.loads(line)["group"] for line in lines))
    kept = set(prompts[:400])  # a threshold is only honest on other prompts
    for name, inside in (("scores.jsonl", True), ("test.jsonl", False)):
        chosen = [line for line in lines if (json.loads(line)["group"] in kept) == inside]
        (clean.folder / name).write_text("".join(chosen))
    said = clean.stopper("calibrate", "--scores", "scores.jsonl", "--out", "artifact")
    assert "at most 0.05 are stopped early" in said.replace("\n", " ")
    return "artifact"


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as opened:
        return set(opened.namelist())


def tracked() -> set[str]:
    """Return the Python files of our packages."""
    found = (file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
    return {file.relative_to(ROOT).as_posix() for file in found}


def test_the_wheel_holds_the_packages_and_their_data_and_nothing_else(wheel: Path) -> None:
    inside = names(wheel)
    assert {name for name in inside if name.endswith(".py")} == tracked()
    assert inside >= DATA
    assert f"{STEM}.dist-info/licenses/LICENSE" in inside
    folders = {name.partition("/")[0] for name in inside}
    assert folders == {*PACKAGES, f"{STEM}.dist-info"}
    assert not [name for name in inside if "__pycache__" in name or name.endswith(".pyc")]


def test_the_wheel_describes_itself(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        said = email.message_from_bytes(opened.read(f"{STEM}.dist-info/METADATA"))
        entries = opened.read(f"{STEM}.dist-info/entry_points.txt").decode()
    assert said["Version"] == PROJECT["version"]
    assert said["License-Expression"] == "Apache-2.0"
    assert said["Description-Content-Type"] == "text/markdown"
    assert said["Requires-Python"] == PROJECT["requires-python"]
    assert set(said.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    assert "stopper = stopper.cli:main" in entries


def test_the_source_distribution_holds_what_the_wheel_is_made_of_and_its_papers(
    dist: Path, wheel: Path
) -> None:
    with tarfile.open(dist / f"{STEM}.tar.gz") as opened:
        inside = {member.name.partition("/")[2] for member in opened if member.isfile()}
    assert {name for name in names(wheel) if ".dist-info/" not in name} <= inside
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"} <= inside
    others = {"tests", "examples", "benchmarks", "docs", "deploy", ".github"}
    assert {name.partition("/")[0] for name in inside} & others == set()


def test_without_extras_help_and_version_work(bare: Environment) -> None:
    assert bare.stopper("--version") == f"stopper {PROJECT['version']}\n"
    shown = bare.stopper("--help")
    for command in ("calibrate", "serve", "collect", "diffusion"):
        assert command in shown


@pytest.mark.parametrize("command", NEEDY)
def test_without_extras_a_command_names_the_one_it_needs(
    without_extras: dict[str, str], command: str
) -> None:
    assert without_extras[command].startswith("stopper: error: ")
    assert NEEDY[command] in without_extras[command]


def test_the_environment_has_the_wheel_and_neither_vllm_nor_torch(clean: Environment) -> None:
    code = (
        "import importlib.util as u, stopper, probes;"
        "print(stopper.__file__, probes.__file__);"
        "print([n for n in ('vllm', 'torch', 'transformers') if u.find_spec(n)])"
    )
    said = clean.run("python", "-c", code).stdout.splitlines()
    assert all(path.startswith(str(clean.bin.parent)) for path in said[0].split())
    assert said[1] == "[]"


def test_the_wheel_evaluates_and_reports(clean: Environment, artifact: str) -> None:
    assert "oracle" in clean.stopper("evaluate", artifact, "--scores", "test.jsonl")
    clean.stopper("report", artifact, "--scores", "test.jsonl", "--out", "report")
    page = (clean.folder / "report" / "report.html").read_text()
    assert "at most 0.05" in page
    assert "<style>" in page


def asked(engine: httpx.Client) -> int:
    """Return how many chat completions have reached the engine."""
    seen = engine.get("/scripted/log").json()["requests"]
    return sum(request["path"] == "/v1/chat/completions" for request in seen)


def test_the_wheel_serves(clean: Environment, artifact: str) -> None:
    with clean.running("running on", "scripted", "--port", "0") as (_, engine):
        options = ("serve", "--artifact", f"scripted={artifact}", "--upstream", engine)
        checked = clean.stopper(*options, "--check")
        assert "model scripted: artifact" in checked
        with clean.running("ready on", *options, "--port", "0") as (process, sidecar):
            request = {
                "model": "scripted",
                "messages": [{"role": "user", "content": "How many primes are below 100?"}],
            }
            answer = httpx.post(f"{sidecar}/v1/chat/completions", json=request, timeout=60)
            assert answer.status_code == 200, answer.text
            assert answer.json()["stopper"]["decision"] == "stopped"
            assert "25" in answer.json()["choices"][0]["message"]["content"]
            page = httpx.get(f"{sidecar}/", headers={"Accept": "text/html"})
            assert "<html" in page.text
            assert httpx.get(f"{sidecar}/v1/status").json()["version"] == PROJECT["version"]
            assert "stopper_decisions_total" in httpx.get(f"{sidecar}/metrics").text

            # A request that runs when SIGTERM comes is answered; then the sidecar ends.
            late: list[httpx.Response] = []
            slow = {"X-Scripted-Fault": "delay; seconds=2"}
            asking = threading.Thread(
                target=lambda: late.append(
                    httpx.post(
                        f"{sidecar}/v1/chat/completions", json=request, headers=slow, timeout=60
                    )
                )
            )
            asking.start()
            with httpx.Client(base_url=engine) as log:
                until(lambda: asked(log) == 2, "the request at the engine")
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            asking.join()
            assert late[0].status_code == 200
