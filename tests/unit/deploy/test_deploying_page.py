"""The commands and values of docs/deploying.md: what can be read of them here is read."""

from __future__ import annotations

import itertools
import re
import shlex
import tomllib
from typing import Any

import pytest
import yaml
from chart_rendering import OnceLoader, objects
from service_facts import ROOT, variables
from test_compose import compose

from stopper.service.settings import ServeSettings
from tests.documents import blocks, commands_in

PAGE = ROOT / "docs" / "deploying.md"
COMMANDS = [
    shlex.split(part.replace("\\\n", " "))
    for block in blocks(PAGE)
    for command in commands_in(block)
    for part in re.split(r"&&|;", command)
]
VALUES = [block.text for block in blocks(PAGE) if block.language == "yaml"]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]


def commands(*beginning: str) -> list[list[str]]:
    found = [words for words in COMMANDS if tuple(words[: len(beginning)]) == beginning]
    assert found
    return found


def option(words: list[str], name: str) -> list[str]:
    return [after for word, after in itertools.pairwise(words) if word == name]


def test_every_command_is_known() -> None:
    known = {"cp", "docker", "helm", "kubectl", "sudo"}
    assert {words[0] for words in COMMANDS} == known


def test_images_are_built_from_files_that_are_here() -> None:
    tags = set()
    for words in commands("docker", "build"):
        [file] = option(words, "--file")
        [tag] = option(words, "--tag")
        assert tag in (ROOT / file).read_text("utf-8")  # its own comment
        assert words[-1] == "."
        tags.add(tag)
    assert tags == {f"stopper:{VERSION}", f"stopper-vllm:{VERSION}"}


def test_build_arguments_of_the_table_exist() -> None:
    rows = re.findall(
        r"^\| `(\w+)`(?:, `(\w+)`)? \| (\w+) \|([^|]*)\|", PAGE.read_text("utf-8"), re.M
    )
    assert len(rows) == 5
    for first, second, where, default in rows:
        files = {"sidecar": ["sidecar"], "vLLM": ["vllm"], "both": ["sidecar", "vllm"]}[where]
        for file in files:
            text = (ROOT / "deploy" / "docker" / f"{file}.Dockerfile").read_text("utf-8")
            for name in filter(None, (first, second)):
                assert f"ARG {name}={default.strip().strip('`')}" in text


def test_what_an_image_is_run_with_exists() -> None:
    serving, keys = commands("docker", "run")
    given = dict(one.split("=", 1) for one in option(serving, "--env"))
    assert set(given) <= variables()
    [mount] = option(serving, "--volume")
    assert given["STOPPER_ARTIFACTS"].split("=")[1].startswith(mount.split(":")[1])
    assert serving[-1] == f"stopper:{VERSION}"
    assert keys[keys.index(f"stopper:{VERSION}") + 1] == "keys"


@pytest.mark.parametrize("words", commands("docker", "compose"), ids=lambda w: " ".join(w[2:])[:60])
def test_every_compose_command_can_be_read(words: list[str]) -> None:
    files = [file.removeprefix("deploy/") for file in option(words, "--file")]
    settings = [*option(words, "--env-file"), "deploy/compose.env.example"][0]
    assert words[-2:] == ["up", "--build"]
    done = compose(*files, settings=ROOT / settings)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_copied_is_there() -> None:
    [[_, source, to]] = commands("cp")
    assert (ROOT / source).is_file()
    assert to in (ROOT / ".gitignore").read_text("utf-8").splitlines()


@pytest.mark.parametrize("text", VALUES, ids=["separate", "pod"])
def test_the_values_make_a_release(text: str) -> None:
    values: dict[str, Any] = yaml.load(text, OnceLoader)
    [[_, _, release, chart, *_]] = commands("helm", "install")
    assert (ROOT / chart / "Chart.yaml").is_file()
    found = objects(values, release)
    assert found["Service"]["metadata"]["name"] == "stopper"
    read = ServeSettings.model_validate(tomllib.loads(found["ConfigMap"]["data"]["settings.toml"]))
    assert read.upstreams
    [secret] = [words[4] for words in commands("kubectl", "create", "secret", "generic")]
    assert values["keys"]["existingSecret"] == secret


def test_what_systemd_gets_is_there_and_lies_where_the_unit_looks() -> None:
    unit = (ROOT / "deploy" / "systemd" / "stopper.service").read_text("utf-8")
    installed = {words[-1]: words[-2] for words in commands("sudo", "install")}
    assert all((ROOT / source).is_file() for source in installed.values())
    assert {source for source in installed.values() if source.startswith("deploy/systemd/")} == {
        f"deploy/systemd/{file.name}" for file in (ROOT / "deploy" / "systemd").iterdir()
    }
    for place in re.findall(r"/etc/stopper/[\w.]+", unit):
        assert place in installed
    assert "/opt/stopper/bin/stopper" in unit
    [[*_, folder]] = commands("sudo", "python3", "-m", "venv")
    assert folder == "/opt/stopper"


def test_a_variable_of_kubernetes_links_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from stopper.errors import InputError

    monkeypatch.setenv("STOPPER_PORT", "tcp://10.0.0.1:8080")
    monkeypatch.setenv("STOPPER_UPSTREAMS", "http://vllm:8000")
    with pytest.raises(InputError, match="port: Input should be a valid integer"):
        ServeSettings.read()
