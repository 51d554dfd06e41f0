"""The chart, rendered by Helm's own engine: valid objects that name what exists."""

from __future__ import annotations

import json
import math
import re
import tomllib
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml
from chart_rendering import (
    CHART,
    KEYS,
    OLDEST,
    POD,
    ROOT,
    SEPARATE,
    SETS,
    SMALL,
    changed,
    chart,
    objects,
    texts,
)
from packaging.version import Version
from service_facts import (
    ENGINE_HEALTH,
    ENGINE_PORT,
    OPTIONS,
    PORT,
    ROUTES,
    drain_seconds,
    engine_answers,
)

from adapters.vllm.settings import PluginSettings
from stopper.service.settings import ServeSettings

NEWEST = max(kubernetes_validate.latest_version(), OLDEST, key=Version)
OF_THE_OPERATOR = {"ServiceMonitor", "PrometheusRule"}

every_set = pytest.mark.parametrize("name", SETS)


@pytest.fixture(scope="module")
def made() -> dict[str, dict[str, dict[str, Any]]]:
    return {name: objects(values) for name, values in SETS.items()}


def sidecar_of(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    [only] = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(only)


def settings_of(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return tomllib.loads(found["ConfigMap"]["data"]["settings.toml"])


def test_helm_finds_no_fault_with_the_chart() -> None:
    helm_python.disable_logging()
    found = helm_python.lint(CHART)
    assert found["errors"] == []
    assert [line["error"] for line in found["messages"]] == ["icon is recommended"]


@every_set
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_object_is_one_of_kubernetes(made: dict[str, Any], name: str, version: str) -> None:
    for kind, found in made[name].items():
        if kind in OF_THE_OPERATOR:
            continue
        if (name, kind, version) == ("separate", "Deployment", OLDEST):
            continue  # its artifacts are an image volume, which is younger
        kubernetes_validate.validate(found, version, strict=True)


def test_a_wrong_object_would_be_noticed(made: dict[str, Any]) -> None:
    wrong = changed(made["small"]["Deployment"], spec__replica=1)
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(wrong, NEWEST, strict=True)


def test_what_is_made_is_what_was_asked_for(made: dict[str, Any]) -> None:
    always = {"ConfigMap", "Deployment", "Service", "PodDisruptionBudget", "Pod"}
    operator = {*OF_THE_OPERATOR, "Dashboard"}
    assert set(made["small"]) == {*always, "ServiceAccount"}
    assert set(made["separate"]) == {
        *always, *operator, "ServiceAccount", "Secret", "NetworkPolicy",
    }  # fmt: skip
    assert set(made["pod"]) == {*always, "NetworkPolicy", "HorizontalPodAutoscaler"}


@every_set
def test_the_sidecar_can_read_its_settings(made: dict[str, Any], name: str) -> None:
    read = ServeSettings.model_validate(settings_of(made[name]))
    assert [str(source.folder) for source in read.artifacts] == [
        f"/artifacts/{one['folder']}" for one in SETS[name]["artifacts"]
    ]
    assert str(read.artifact_root) == "/artifacts"
    assert read.allow_open is (name == "small")


def test_every_setting_arrives(made: dict[str, Any]) -> None:
    read = ServeSettings.model_validate(settings_of(made["separate"]))
    for name, given in SEPARATE["settings"].items():
        kept = getattr(read, name)
        if isinstance(given, dict):
            assert {key: value for key, value in json.loads(kept.model_dump_json()).items()
                    if key in given} == given  # fmt: skip
        else:
            assert kept == given
    assert [(one.url, str(one.api_key_file)) for one in read.upstreams] == [
        ("http://one:8000", "/etc/stopper/upstream-0/key"),
        ("https://two.example.com/engine", "None"),
    ]
    assert read.redis == "redis://redis:6379/0"


@every_set
def test_every_mounted_volume_is_there_and_every_path_is_mounted(
    made: dict[str, Any], name: str
) -> None:
    pod = made[name]["Deployment"]["spec"]["template"]["spec"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    mounted = set()
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        mounted |= {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == volumes
    paths = [mount["mountPath"] for mount in sidecar_of(made[name])["volumeMounts"]]
    text = made[name]["ConfigMap"]["data"]["settings.toml"]
    named = [*re.findall(r'"(/[^"]+)"', text), sidecar_of(made[name])["args"][2]]
    assert all(any(path.startswith(mount) for mount in paths) for path in named)


@every_set
def test_ports_paths_and_options_exist(made: dict[str, Any], name: str) -> None:
    sidecar = sidecar_of(made[name])
    assert sidecar["ports"] == [{"name": "http", "containerPort": PORT}]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert sidecar[probe]["httpGet"]["port"] == "http"
        assert sidecar[probe]["httpGet"]["path"] in ROUTES
    command, *options = sidecar["args"]
    assert command == "serve"
    assert set(options[::2]) == {"--config"} < OPTIONS
    assert made[name]["Service"]["spec"]["ports"][0]["targetPort"] == "http"
    [target] = made[name]["Pod"]["spec"]["containers"][0]["args"]
    service = made[name]["Service"]
    port = service["spec"]["ports"][0]["port"]
    assert target == f"http://{service['metadata']['name']}:{port}/readyz"
    assert "/readyz" in ROUTES


def test_the_monitor_finds_the_metrics(made: dict[str, Any]) -> None:
    spec = made["separate"]["ServiceMonitor"]["spec"]
    [endpoint] = spec["endpoints"]
    service = made["separate"]["Service"]
    assert endpoint["path"] in ROUTES
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    assert spec["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    # The job that alerts and dashboard ask for.
    assert service["metadata"]["labels"][spec["jobLabel"]] == "stopper"
    assert endpoint["authorization"]["credentials"] == {"name": "scrape", "key": "token"}
    assert "authorization" not in objects(
        changed(SMALL, monitoring__serviceMonitor__enabled=True)
    )["ServiceMonitor"]["spec"]["endpoints"][0]  # fmt: skip


def test_alerts_and_dashboard_are_the_ones_of_this_repository(made: dict[str, Any]) -> None:
    alerts = (ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text(encoding="utf-8")
    found = made["separate"]["PrometheusRule"]["spec"]
    prefix = SEPARATE["monitoring"]["rules"]["runbookPrefix"]
    theirs = yaml.safe_load(alerts)
    links = [
        rule["annotations"]
        for group in theirs["groups"] for rule in group["rules"] if "alert" in rule
    ]  # fmt: skip
    assert links
    for link in links:
        assert link["runbook_url"].startswith("docs/")
        link["runbook_url"] = prefix + link["runbook_url"]
    assert found == theirs
    dashboard = made["separate"]["Dashboard"]
    text = (ROOT / "deploy" / "grafana" / "dashboards" / "stopper.json").read_text("utf-8")
    assert json.loads(dashboard["data"]["stopper.json"]) == json.loads(text)
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_a_packaged_chart_needs_nothing_beside_it(tmp_path: Path) -> None:
    file = helm_python.package(CHART, destination=tmp_path)
    with helm_python.Chart.load(file) as packaged:
        packed = packaged.render(SEPARATE, name="mine", namespace="models")
    assert packed == chart().render(SEPARATE, name="mine", namespace="models")
    assert "runbook_url" in packed["stopper/templates/prometheusrule.yaml"]


@every_set
def test_a_pod_may_take_longer_to_end_than_the_sidecar_does(
    made: dict[str, Any], name: str
) -> None:
    given = settings_of(made[name]).get("limits", {})
    drain = given.get("drain_s", drain_seconds())
    pod = made[name]["Deployment"]["spec"]["template"]["spec"]
    hook = sidecar_of(made[name])["lifecycle"]["preStop"]["exec"]["command"]
    engine = 30 if "initContainers" in pod else 0
    expected = int(hook[1]) + math.ceil(drain) + 15 + engine
    assert hook[0] == "sleep"
    assert pod["terminationGracePeriodSeconds"] == expected


def test_without_a_wait_there_is_no_hook() -> None:
    found = objects(changed(SMALL, preStopSeconds=0))
    assert "lifecycle" not in sidecar_of(found)
    assert found["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 75


@every_set
def test_pods_have_no_more_rights_than_they_need(made: dict[str, Any], name: str) -> None:
    for pod in (
        made[name]["Deployment"]["spec"]["template"]["spec"], made[name]["Pod"]["spec"],
    ):  # fmt: skip
        assert pod["automountServiceAccountToken"] is False
        # A Service called stopper would else set STOPPER_PORT to tcp://...
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            rights = container["securityContext"]
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["capabilities"] == {"drop": ["ALL"]}
            assert rights.get("runAsUser", pod["securityContext"].get("runAsUser", 0)) > 0
    rights = sidecar_of(made[name])["securityContext"]
    assert rights["readOnlyRootFilesystem"] is True
    assert rights["runAsNonRoot"] is True


def test_the_engine_is_there_first_and_ends_last(made: dict[str, Any]) -> None:
    pod = made["pod"]["Deployment"]["spec"]["template"]["spec"]
    [engine] = pod["initContainers"]
    assert engine["restartPolicy"] == "Always"  # of an init container: it stays
    assert engine["ports"] == [{"name": "engine", "containerPort": ENGINE_PORT}]
    assert engine_answers(ENGINE_HEALTH)
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert engine[probe]["httpGet"] == {"path": ENGINE_HEALTH, "port": "engine"}
    assert engine["startupProbe"]["failureThreshold"] * 10 == 45 * 60
    [upstream] = settings_of(made["pod"])["upstreams"]
    assert upstream == {"url": f"http://127.0.0.1:{ENGINE_PORT}"}


def test_the_engine_gets_options_that_the_plugin_takes(made: dict[str, Any]) -> None:
    [engine] = made["pod"]["Deployment"]["spec"]["template"]["spec"]["initContainers"]
    model, *options = engine["args"]
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert model == "/models/qwen3-8b"
    assert given["--served-model-name"] == "Qwen/Qwen3-8B"
    assert given["--reasoning-parser"] == "qwen3"
    assert given["--max-model-len"] == "32768"
    plugin = PluginSettings.model_validate(json.loads(given["--additional-config"])["stopper"])
    assert str(plugin.artifact) == "/artifacts/qwen3-8b"
    assert (plugin.alpha, str(plugin.decisions)) == (0.02, "/cache/decisions.jsonl")


def test_redis_is_taken_from_its_secret(made: dict[str, Any]) -> None:
    secret = {"secretKeyRef": {"name": "redis", "key": "url"}}
    assert sidecar_of(made["pod"])["env"] == [{"name": "STOPPER_REDIS", "valueFrom": secret}]
    assert "redis" in ServeSettings.model_fields
    assert "redis" not in settings_of(made["pod"])


def test_the_keys_are_the_file_that_the_sidecar_reads(made: dict[str, Any], tmp_path: Path) -> None:
    from stopper.service.key_file import read_keys

    file = tmp_path / "keys.toml"
    file.write_text(made["separate"]["Secret"]["stringData"]["keys.toml"])
    [key] = read_keys(file)
    assert (key.name, key.scopes) == ("ops", {"admin"})
    for name, secret in (("separate", "mine-stopper-keys"), ("pod", "stopper-keys")):
        volumes = made[name]["Deployment"]["spec"]["template"]["spec"]["volumes"]
        [keys] = [volume for volume in volumes if volume["name"] == "keys"]
        assert keys["secret"] == {"secretName": secret, "defaultMode": 0o440}
        assert settings_of(made[name])["keys_file"] == "/etc/stopper/keys/keys.toml"
    assert made["separate"]["Secret"]["metadata"]["name"] == "mine-stopper-keys"


def test_the_network_policy_opens_what_is_listened_on(made: dict[str, Any]) -> None:
    clients, monitoring = made["pod"]["NetworkPolicy"]["spec"]["ingress"]
    assert clients == {"from": [{"podSelector": {}}], "ports": [{"port": PORT}]}
    assert monitoring["ports"] == [{"port": PORT}, {"port": ENGINE_PORT}]
    assert made["pod"]["NetworkPolicy"]["spec"]["policyTypes"] == ["Ingress"]
    spec = made["separate"]["NetworkPolicy"]["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert [port["port"] for port in spec["egress"][0]["ports"]] == [53, 53]
    assert spec["egress"][1:] == SEPARATE["networkPolicy"]["egress"]
    assert spec["ingress"][1]["ports"] == [{"port": PORT}]


def test_the_autoscaler_counts_the_sidecar_that_there_is(made: dict[str, Any]) -> None:
    spec = made["pod"]["HorizontalPodAutoscaler"]["spec"]
    deployment = made["pod"]["Deployment"]
    assert spec["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]
    [metric] = spec["metrics"]
    sidecar = sidecar_of(made["pod"])
    assert metric["containerResource"]["container"] == sidecar["name"]
    assert "cpu" in sidecar["resources"]["requests"]
    own = [{"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization"}}}]
    found = objects(changed(POD, autoscaling__metrics=own))
    assert found["HorizontalPodAutoscaler"]["spec"]["metrics"] == own


def test_a_release_named_stopper_is_not_named_twice() -> None:
    assert objects(SMALL, "stopper")["Service"]["metadata"]["name"] == "stopper"


@every_set
def test_the_service_finds_the_pods_and_not_the_tests(made: dict[str, Any], name: str) -> None:
    selector = made[name]["Service"]["spec"]["selector"]
    labels = made[name]["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert selector.items() <= labels.items()
    assert not selector.items() <= made[name]["Pod"]["metadata"]["labels"].items()
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert made[name][kind]["spec"]["selector"]["matchLabels"] == selector


def test_the_notes_tell_what_is_missing() -> None:
    notes = texts(SMALL)["NOTES.txt"]
    assert "http://mine-stopper.models:8080/v1" in notes
    assert "There are no API keys" in notes
    assert "There is no Redis" in notes
    assert "There is" not in texts(POD)["NOTES.txt"]


def test_other_settings_make_other_pods_and_other_keys_do_not() -> None:
    def sum_of(values: dict[str, Any]) -> str:
        template = objects(values)["Deployment"]["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/settings"])

    first = sum_of(SEPARATE)
    assert sum_of(changed(SEPARATE, settings__alpha=0.1)) != first
    assert sum_of(changed(SEPARATE, keys__toml=KEYS)) == first


def test_the_image_has_what_the_chart_calls(made: dict[str, Any]) -> None:
    command = made["small"]["Pod"]["spec"]["containers"][0]["command"]
    copied = (ROOT / "deploy" / "docker" / "sidecar.Dockerfile").read_text("utf-8")
    assert command[0] == "python"
    assert f"COPY deploy/docker/healthcheck.py {command[1]}\n" in copied
