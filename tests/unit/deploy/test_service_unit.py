"""The systemd unit: systemd's own word, and a start by its command."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from service_facts import OPTIONS, ROOT, drain_seconds, variables

from stopper.service.settings import ServeSettings
from tests.servers import free_port

FOLDER = ROOT / "deploy" / "systemd"
UNIT = FOLDER / "stopper.service"
STOPPER = "/opt/stopper/bin/stopper"
CONFIG = "/etc/stopper/sidecar.toml"


def fields() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text("utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Return the unit with the program of this environment, as systemd wants one that exists."""
    program = Path(sys.executable).with_name("stopper")
    text = UNIT.read_text("utf-8")
    unit = tmp_path / "stopper.service"
    unit.write_text(text.replace(STOPPER, str(program)))
    return unit


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    assert program is not None, "there is no systemd-analyze; run `make tools`"
    return subprocess.run([program, *words], capture_output=True, text=True, check=False)


def test_systemd_finds_no_fault(here: Path) -> None:
    done = analyze("verify", here)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_would_find_one(here: Path) -> None:
    here.write_text(here.read_text("utf-8").replace("Restart=on-failure", "Restart=perhaps"))
    assert "Failed to parse service restart specifier" in analyze("verify", here).stderr


def test_it_is_exposed_to_little(here: Path) -> None:
    # In tenths; services without any hardening have 96.
    done = analyze("security", "--offline=true", "--threshold=15", here)
    assert done.returncode == 0, done.stdout[-300:]


def test_its_commands_exist() -> None:
    found = fields()
    for name in ("ExecStart", "ExecStartPre"):
        [line] = found[name]
        program, command, *options = shlex.split(line)
        assert (program, command) == (STOPPER, "serve")
        assert {option for option in options if option.startswith("--")} <= OPTIONS
        assert options[options.index("--config") + 1] == CONFIG


def test_there_is_more_time_to_end_than_the_sidecar_takes() -> None:
    assert float(fields()["TimeoutStopSec"][0]) > drain_seconds()
    # A worker that gets SIGTERM from systemd and from its parent would end at once.
    assert fields()["KillMode"] == ["mixed"]


def test_the_user_is_made_by_the_file_beside_it() -> None:
    made = re.findall(r"^u (\S+) ", (FOLDER / "stopper.sysusers.conf").read_text("utf-8"), re.M)
    assert made == fields()["User"] == fields()["Group"]


def test_variables_of_the_example_exist() -> None:
    text = (FOLDER / "stopper.env.example").read_text("utf-8")
    named = set(re.findall(r"\bSTOPPER_[A-Z_]+", text))
    assert named
    assert named <= variables()
    assert fields()["EnvironmentFile"] == ["-/etc/stopper/stopper.env"]
    assert text.startswith("# /etc/stopper/stopper.env")


def test_the_settings_that_come_along_drain_in_time() -> None:
    given = tomllib.loads((ROOT / "deploy" / "sidecar.toml").read_text("utf-8"))
    limits = ServeSettings.model_validate(given).limits
    assert limits.drain_s < float(fields()["TimeoutStopSec"][0])


def test_its_command_serves_and_ends_by_sigterm(here: Path, tmp_path: Path) -> None:
    config = tmp_path / "sidecar.toml"
    artifact = ROOT / "examples" / "tiny_reasoner" / "artifact"
    config.write_text(
        f'port = {free_port()}\n[[artifacts]]\nmodel = "tiny"\nfolder = "{artifact}"\n'
    )
    text = here.read_text("utf-8").replace(CONFIG, str(config))
    [start] = re.findall("^ExecStart=(.*)$", text, re.MULTILINE)
    with subprocess.Popen(
        shlex.split(start), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        cwd=tmp_path, env={"PYTHONDONTWRITEBYTECODE": "1"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
        assert process.wait(60) == 0
    assert line.startswith("stopper ready on http://127.0.0.1:")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["sidecar.toml", "stopper.service"]
