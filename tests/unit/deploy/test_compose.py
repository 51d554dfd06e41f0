"""The compose files, as Docker Compose itself reads them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from packaging.version import Version
from service_facts import (
    ENGINE_HEALTH,
    ENGINE_PORT,
    PORT,
    ROOT,
    ROUTES,
    drain_seconds,
    engine_answers,
    variables,
)  # fmt: skip

from adapters.vllm.compatibility import SUPPORTED_VLLM
from adapters.vllm.settings import PluginSettings
from stopper.artifact import Artifact
from stopper.service.settings import ServeSettings

DEPLOY = ROOT / "deploy"
SIDECARS = ("sidecar-1", "sidecar-2")


def load_tools() -> ModuleType:
    """Load the script that finds the tests' tools; it is no module of a package."""
    spec = importlib.util.spec_from_file_location("tools", DEPLOY / "tools.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def compose(*files: str, settings: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Let Docker Compose read files, with an environment of nothing but `more`."""
    program = load_tools().find_compose()
    assert program is not None, "there is no docker-compose; run `make tools`"
    named = [part for file in files for part in ("--file", str(DEPLOY / file))]
    return subprocess.run(
        [program, "--env-file", settings, *named, "config", "--format", "json"],
        capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **more},
    )  # fmt: skip


@cache
def read(*files: str, settings: str = "compose.env.example") -> dict[str, Any]:
    """Return what Docker Compose makes of files."""
    done = compose(*files, settings=DEPLOY / settings)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def services(*files: str, settings: str = "compose.env.example") -> dict[str, Any]:
    found: dict[str, Any] = read("compose.yaml", *files, settings=settings)["services"]
    return found


def seconds(text: str) -> float:
    parts = re.findall(r"(\d+)(h|m|s)", text)
    return sum(int(number) * {"h": 3600, "m": 60, "s": 1}[unit] for number, unit in parts)


def sidecar_settings(
    environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> ServeSettings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return ServeSettings.read()


def test_all_of_it_is_there() -> None:
    assert set(services()) == {
        *SIDECARS, "vllm", "balancer", "redis", "prometheus", "grafana",
    }  # fmt: skip


def test_a_wrong_file_would_be_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DEPLOY / "compose.yaml").read_text("utf-8").replace("read_only", "readonly"))
    done = compose(str(wrong), settings=DEPLOY / "compose.env.example")
    assert done.returncode != 0
    assert "readonly" in done.stderr


@pytest.mark.parametrize(
    "name", ["MODEL", "MODEL_NAME", "REASONING_PARSER", "ARTIFACTS_DIR", "ARTIFACT"]
)
def test_what_is_missing_is_named_with_where_to_look(name: str, tmp_path: Path) -> None:
    example = (DEPLOY / "compose.env.example").read_text("utf-8")
    less = tmp_path / "env"
    less.write_text(re.sub(rf"^{name}=.*\n", "", example, flags=re.MULTILINE))
    done = compose("compose.yaml", settings=less)
    assert done.returncode != 0
    assert f"set {name}, see deploy/compose.env.example" in done.stderr


def test_the_example_names_every_variable_of_the_file() -> None:
    text = (DEPLOY / "compose.yaml").read_text("utf-8")
    asked = {*re.findall(r"\$\{(\w+)", text), "HF_TOKEN"}
    told = set(
        re.findall(
            r"^(?:# )?(\w+)=", (DEPLOY / "compose.env.example").read_text("utf-8"), re.MULTILINE
        )
    )
    assert asked == told


@pytest.mark.parametrize("keys", [False, True], ids=["open", "keys"])
def test_sidecars_can_read_their_settings(keys: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found = services(*(["compose.keys.yaml"] if keys else []))
    for name in SIDECARS:
        environment = found[name]["environment"]
        assert set(environment) <= variables()
        given = sidecar_settings(environment, monkeypatch)
        [source] = given.artifacts
        assert (source.model, str(source.folder)) == ("Qwen/Qwen3-8B", "/artifacts/qwen3-8b")
        assert [upstream.url for upstream in given.upstreams] == [f"http://vllm:{ENGINE_PORT}"]
        assert given.redis == "redis://redis:6379/0"
        assert given.allow_open is not keys
        mounts = {mount["target"] for mount in found[name]["volumes"]}
        assert mounts == {"/artifacts", *(["/run/keys"] if keys else [])}
        assert keys is (given.keys_file is not None)
        if given.keys_file is not None:
            assert str(given.keys_file.parent) in mounts


def test_sidecars_are_alike_and_tested_for_being_ready() -> None:
    one, two = (services()[name] for name in SIDECARS)
    assert one == two
    assert one["healthcheck"]["test"][-1] in ROUTES
    dockerfile = (DEPLOY / "docker" / "sidecar.Dockerfile").read_text("utf-8")
    assert one["healthcheck"]["test"][-2] in dockerfile
    assert one["read_only"] is True
    assert one["tmpfs"] == ["/tmp"]
    assert "user" not in one  # the image's


def test_there_is_more_time_to_end_than_the_sidecar_takes() -> None:
    for name in (*SIDECARS, "balancer"):
        drain = float(services()[SIDECARS[0]]["environment"]["STOPPER_LIMITS__DRAIN_S"])
        assert seconds(services()[name]["stop_grace_period"]) > drain
    assert drain == drain_seconds()


def test_what_is_waited_for_is_tested() -> None:
    found = services()
    for service in found.values():
        for name, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy"
            dockerfile = found[name].get("build", {}).get("dockerfile", "")
            assert "healthcheck" in found[name] or "sidecar" in dockerfile
    assert {"redis", "vllm"} <= set(found["sidecar-1"]["depends_on"])
    assert set(found["balancer"]["depends_on"]) == set(SIDECARS)


def test_only_this_machine_reaches_it() -> None:
    published = [port for service in services().values() for port in service.get("ports", [])]
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    assert {port["target"] for port in services()["balancer"]["ports"]} == {PORT}


def test_every_service_runs_with_few_rights() -> None:
    for name, service in services().items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service.get("read_only", False) is (name != "vllm"), name


@pytest.mark.parametrize(
    "files", [(), ("compose.cpu.yaml",), ("compose.keys.yaml",)], ids=["gpu", "cpu", "keys"]
)
def test_what_is_mounted_from_here_is_here(files: tuple[str, ...]) -> None:
    own = {"artifacts", "models", "keys", "keys/prometheus"}  # the operator's
    for service in services(*files).values():
        for mount in service.get("volumes", []):
            if mount["type"] == "bind":
                source = Path(mount["source"]).relative_to(DEPLOY)
                assert str(source) in own or (DEPLOY / source).exists()
                assert mount["read_only"] is True
            else:
                assert mount["source"] in read("compose.yaml")["volumes"]


def test_images_are_built_from_what_is_here_with_the_version_of_the_package() -> None:
    version = importlib.metadata.version("stopper")
    for service in services().values():
        if "build" in service:
            assert (Path(service["build"]["context"]) / service["build"]["dockerfile"]).is_file()
            assert service["image"].endswith(f":{version}")
        else:
            assert re.fullmatch(r"[\w/]+:v?\d+\.\d[\w.-]*", service["image"])


@pytest.mark.parametrize("files", [(), ("compose.cpu.yaml",)], ids=["gpu", "cpu"])
def test_the_engine_is_one_that_the_plugin_accepts(files: tuple[str, ...]) -> None:
    arguments = services(*files)["vllm"]["build"]["args"]
    [version] = re.findall(r":v([\d.]+)", arguments["VLLM_IMAGE"])
    assert SUPPORTED_VLLM[0] <= Version(version) < SUPPORTED_VLLM[1]
    dockerfile = (DEPLOY / "docker" / "vllm.Dockerfile").read_text("utf-8")
    assert all(f"ARG {name}=" in dockerfile for name in arguments)


def engine_options(service: dict[str, Any]) -> tuple[str, dict[str, str]]:
    model, *options = service["command"]
    return model, dict(zip(options[::2], options[1::2], strict=True))


def test_the_engine_gets_options_that_the_plugin_takes() -> None:
    engine = services()["vllm"]
    model, options = engine_options(engine)
    assert (model, options["--served-model-name"]) == ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B")
    plugin = PluginSettings.model_validate(json.loads(options["--additional-config"])["stopper"])
    assert str(plugin.artifact) == "/artifacts/qwen3-8b"
    asked = re.findall(r"http://127.0.0.1:(\d+)(/\w+)", engine["healthcheck"]["test"][-1])
    assert asked == [(str(ENGINE_PORT), ENGINE_HEALTH)]
    assert engine_answers(ENGINE_HEALTH)
    assert engine["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


def test_without_a_gpu_the_tiny_reasoner_is_served_as_its_artifact_says() -> None:
    found = services("compose.cpu.yaml", settings="tiny.env")
    engine, sidecar = found["vllm"], found["sidecar-1"]
    assert "deploy" not in engine
    model, options = engine_options(engine)
    mounts = {mount["target"]: Path(mount["source"]) for mount in engine["volumes"]}
    assert (mounts["/models"] / Path(model).relative_to("/models") / "config.json").is_file()
    plugin = json.loads(options["--additional-config"])["stopper"]
    folder = mounts["/artifacts"] / Path(plugin["artifact"]).relative_to("/artifacts")
    made_for = Artifact.load(folder).manifest.model
    assert made_for is not None
    assert options["--dtype"] == made_for.dtype
    name, _, served = sidecar["environment"]["STOPPER_ARTIFACTS"].partition("=")
    assert (name, served) == (options["--served-model-name"], plugin["artifact"])


def test_prometheus_finds_sidecars_engine_and_rules() -> None:
    found = services()
    settings = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    names = {
        (name, one["port"])
        for job in settings["scrape_configs"]
        for one in job["dns_sd_configs"]
        for name in one["names"]
    }
    assert names == {("sidecar", PORT), ("vllm", ENGINE_PORT)}
    for name in SIDECARS:
        assert found[name]["networks"]["default"]["aliases"] == ["sidecar"]
    assert "/metrics" in ROUTES
    [mount] = [one for one in found["prometheus"]["volumes"] if one["type"] == "bind"]
    assert mount["target"] == "/etc/prometheus"  # where the image looks for prometheus.yml
    assert all((Path(mount["source"]) / rule).is_file() for rule in settings["rule_files"])


def test_the_key_of_prometheus_lies_where_its_file_says() -> None:
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8")
    [file] = re.findall(r"credentials_file: (\S+)", text)
    mounts = services("compose.keys.yaml")["prometheus"]["volumes"]
    assert file in {mount["target"] for mount in mounts}


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    found = services()
    mounts = {one["target"]: one["source"] for one in found["grafana"]["volumes"]}
    provisioning = Path(mounts["/etc/grafana/provisioning"])
    [dashboards] = (provisioning / "dashboards").glob("*.yaml")
    [provider] = yaml.safe_load(dashboards.read_text("utf-8"))["providers"]
    assert list(Path(mounts[provider["options"]["path"]]).glob("*.json"))
    [sources] = (provisioning / "datasources").glob("*.yaml")
    [source] = yaml.safe_load(sources.read_text("utf-8"))["datasources"]
    host, port = re.fullmatch(r"http://(\w+):(\d+)", source["url"]).groups()  # type: ignore[union-attr]
    assert host in found
    assert int(port) in {one["target"] for one in found[host]["ports"]}


def test_the_balancer_reads_its_file_and_finds_the_sidecars() -> None:
    program = Path(sys.executable).with_name("caddy")
    file = DEPLOY / "Caddyfile"
    done = subprocess.run(
        [program, "adapt", "--config", file, "--adapter", "caddyfile", "--validate"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [server] = json.loads(done.stdout)["apps"]["http"]["servers"].values()
    assert server["listen"] == [f":{services()['balancer']['ports'][0]['target']}"]
    [handler] = server["routes"][0]["handle"]
    assert {one["dial"] for one in handler["upstreams"]} == {f"{name}:{PORT}" for name in SIDECARS}
    assert handler["health_checks"]["active"]["uri"] in ROUTES
    formatted = subprocess.run([program, "fmt", file], capture_output=True, text=True, check=False)
    assert formatted.stdout == file.read_text("utf-8")
