"""Dockerfiles: a linter's word, and whether what they name is there."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from packaging.version import Version
from service_facts import ENGINE_PORT, PORT, ROOT, ROUTES, variables

from adapters.vllm.compatibility import SUPPORTED_VLLM

FOLDER = ROOT / "deploy" / "docker"
SIDECAR, ENGINE = FOLDER / "sidecar.Dockerfile", FOLDER / "vllm.Dockerfile"
CHECK = FOLDER / "healthcheck.py"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

both = pytest.mark.parametrize("file", [SIDECAR, ENGINE], ids=lambda file: file.name)


def lines(file: Path) -> list[str]:
    """Return the instructions, with continued lines joined and comments left out."""
    text = re.sub(r"^\s*#.*\n", "", file.read_text("utf-8"), flags=re.MULTILINE)
    return [line for line in re.sub(r"\\\n\s*", "", text).splitlines() if line.strip()]


def hadolint(file: Path) -> list[dict[str, str]]:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [program, "--no-color", "--format", "json", file],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


@both
def test_the_linter_has_nothing_to_say(file: Path) -> None:
    assert hadolint(file) == []


def test_the_linter_would_say_it(tmp_path: Path) -> None:
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(
        SIDECAR.read_text("utf-8").replace("-slim-bookworm\n", "\n", 1) + "USER root\n"
    )
    assert "DL3002" in {fault["code"] for fault in hadolint(wrong)}


@both
def test_what_is_copied_is_there_and_is_sent_to_the_builder(file: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    sent = [line[1:] for line in ignored if line.startswith("!")]
    assert ignored[1] == "*"
    copies = [line.split()[1:-1] for line in lines(file) if line.startswith("COPY ")]
    sources = [source for copy in copies if not copy[0].startswith("--from") for source in copy]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source in sent, source
    assert all((ROOT / name).exists() for name in sent)


@both
def test_the_wheel_can_be_built_from_what_is_copied(file: Path) -> None:
    copied = " ".join(line for line in lines(file) if line.startswith("COPY "))
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    needed = [pattern.rstrip("*") for pattern in tool["packages"]["find"]["include"]]
    needed += ["pyproject.toml", PROJECT["readme"], *PROJECT["license-files"]]
    assert [name for name in needed if not re.search(rf"\b{re.escape(name)}\b", copied)] == []


@both
def test_nothing_of_ours_is_kept_from_the_builder(file: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    patterns = [line.removeprefix("**/") for line in ignored if line.startswith("**/")]
    tracked = subprocess.run(
        ["git", "ls-files", "probes", "calibration", "stopper", "adapters"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert tracked
    parts = {part for name in tracked for part in Path(name).parts}
    assert [part for part in parts if any(fnmatch.fnmatch(part, one) for one in patterns)] == []


@both
def test_labels_and_version(file: Path) -> None:
    text = "\n".join(lines(file))
    assert f"ARG VERSION={PROJECT['version']}" in text
    assert 'org.opencontainers.image.version="${VERSION}"' in text
    assert f'org.opencontainers.image.licenses="{PROJECT["license"]}"' in text
    # The comment that tells how to build it.
    assert re.findall(r"--tag \S+:(\S+) ", file.read_text("utf-8")) == [PROJECT["version"]]


@both
def test_extras_exist(file: Path) -> None:
    text = file.read_text("utf-8")
    named = re.findall(r"EXTRAS=\"?([\w,]+)", text) + re.findall(
        r"\$\{wheel\}\"?\[([a-z]+)\]", text
    )
    extras = {extra for part in named for extra in part.split(",")}
    assert extras
    assert extras <= set(PROJECT["optional-dependencies"])


@both
def test_it_does_not_run_as_root(file: Path) -> None:
    last = [line for line in lines(file) if line.startswith("USER ")][-1]
    user = last.removeprefix("USER ")
    if user == "${RUN_AS}":
        [user] = [line.removeprefix("ARG RUN_AS=") for line in lines(file) if "ARG RUN_AS" in line]
    assert re.fullmatch(r"[1-9]\d*:\d+", user)


def test_the_engine_is_one_that_the_plugin_accepts() -> None:
    oldest, beyond = SUPPORTED_VLLM
    versions = re.findall(r"vllm/vllm-openai\S*:v([\d.]+)", ENGINE.read_text("utf-8"))
    assert len(versions) == 2
    assert all(oldest <= Version(version) < beyond for version in versions)


def test_the_engine_loads_the_plugin_and_keeps_its_entry_point() -> None:
    instructions = lines(ENGINE)
    assert "ENV VLLM_PLUGINS=stopper" in instructions
    assert "stopper" in PROJECT["entry-points"]["vllm.general_plugins"]
    assert not [line for line in instructions if line.split()[0] in ("ENTRYPOINT", "CMD")]
    assert f"EXPOSE {ENGINE_PORT}" in instructions


def test_the_sidecar_serves_by_default() -> None:
    instructions = lines(SIDECAR)
    assert 'ENTRYPOINT ["stopper"]' in instructions
    assert 'CMD ["serve"]' in instructions
    assert "stopper" in PROJECT["scripts"]
    assert f"EXPOSE {PORT}" in instructions
    named = set(re.findall(r"STOPPER_[A-Z_]+", SIDECAR.read_text("utf-8")))
    assert {"STOPPER_HOST", "STOPPER_PORT"} <= named <= variables()
    [check] = [line for line in instructions if line.startswith("HEALTHCHECK")]
    assert json.loads(check.split("CMD ")[1])[2] in ROUTES


def test_the_python_of_the_images_is_one_of_ours() -> None:
    for file in (SIDECAR, ENGINE):
        [version] = re.findall(r"ARG PYTHON=(\S+)", file.read_text("utf-8"))
        assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]


class Answers(BaseHTTPRequestHandler):
    """Answers 503 to /readyz and 200 to the rest."""

    def do_GET(self) -> None:
        self.send_response(503 if self.path == "/readyz" else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def health(*asked: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the check as an image does, with a proxy that must not be asked."""
    python = shutil.which("python3") or sys.executable
    return subprocess.run(
        [python, "-I", "-S", CHECK, *asked], capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "http_proxy": "http://127.0.0.1:9", **variables},
    )  # fmt: skip


def test_a_well_sidecar_is_well(port: int) -> None:
    done = health(STOPPER_PORT=str(port))
    assert (done.returncode, done.stderr) == (0, "")
    assert health(f"http://127.0.0.1:{port}/livez").returncode == 0


def test_one_that_is_not_ready_is_told(port: int) -> None:
    done = health("/readyz", STOPPER_PORT=str(port))
    assert done.returncode == 1
    assert done.stderr == f"http://127.0.0.1:{port}/readyz: HTTP Error 503: Service Unavailable\n"


def test_one_that_is_not_there_is_told() -> None:
    done = health(STOPPER_PORT="9")
    assert done.returncode == 1
    assert "http://127.0.0.1:9/livez: <urlopen error" in done.stderr
