"""The chart's values: what is refused, and by whom; the schema says something about every one."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import helm_python
import jsonschema
import pytest
import yaml
from chart_rendering import CHART, KEYS, OLDEST, ROOT, SMALL, changed, chart, texts

from deploy.helm.settings_schema import OF_THE_CHART, settings_schema
from stopper.service.settings import ServeSettings

REFUSED_TOGETHER = {
    "no keys": ({"keys__allowOpen": False}, "toml and allowOpen, not none"),
    "two kinds of keys": ({"keys__toml": KEYS}, "not keys.toml and keys.allowOpen"),
    "no volume": ({"artifactVolume": {}}, "artifactVolume: give the volume"),
    "nothing to serve": ({"artifacts": []}, "artifactVolume, upstreams, or both"),
    "two places of Redis": (
        {"redis__url": "redis://r", "redis__existingSecret__name": "r"},
        "url or existingSecret.name, not both"),
    "replicas without Redis": ({"replicas": 2}, "several replicas or workers"),
    "workers without Redis": ({"settings__workers": 2}, "several replicas or workers"),
    "autoscaling without Redis": ({"autoscaling__enabled": True}, "several replicas or workers"),
    "no room to scale": (
        {"redis__url": "redis://r", "autoscaling__enabled": True, "autoscaling__maxReplicas": 1},
        "minReplicas is above maxReplicas"),
    "pod without a model": ({"layout": "pod"}, "layout pod: give vllm.model, vllm.reasoningParser"),
    "pod with upstreams": (
        {"layout": "pod", "vllm__model": "m", "vllm__reasoningParser": "p",
         "upstreams": [{"url": "http://a"}]},
        "layout pod has its own engine"),
    "metrics without a key": (
        {"keys__allowOpen": False, "keys__toml": KEYS, "monitoring__serviceMonitor__enabled": True},
        "/metrics wants one of scope read"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_TOGETHER)
def test_what_does_not_fit_together_is_refused_by_a_sentence(case: str) -> None:
    changes, sentence = REFUSED_TOGETHER[case]
    with pytest.raises(helm_python.HelmRenderError, match=re.escape(sentence)):
        texts(changed(SMALL, **changes))


REFUSED_ALONE = {
    "an unknown value": {"replica": 1},
    "an unknown value further in": {"service__prot": 1},
    "an unknown layout": {"layout": "both"},
    "no pods": {"replicas": 0},
    "a fraction of a pod": {"replicas": 1.5},
    "a folder that leaves the volume": {"artifacts": [{"folder": "../etc"}]},
    "an artifact without a folder": {"artifacts": [{"model": "m"}]},
    "an engine without http": {"upstreams": [{"url": "vllm:8000"}]},
    "a password in the open": {"redis__url": "redis://:secret@redis:6379"},
    "a setting of the chart's own": {"settings__port": 1},
    "an unknown setting": {"settings__limits": {"drain": 1}},
    "an alpha that is none": {"settings__alpha": 1},
    "two volumes in one": {"artifactVolume": {"emptyDir": {}, "nfs": {}}},
    "the plugin's artifact": {"vllm__plugin": {"artifact": "/x"}},
    "a port that is none": {"service__port": 70000},
}


@pytest.mark.parametrize("case", REFUSED_ALONE)
def test_a_wrong_value_is_refused_by_the_schema(case: str) -> None:
    values = changed(SMALL, **REFUSED_ALONE[case])
    with pytest.raises(helm_python.HelmValuesError):
        chart().validate_schema(values)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(chart().merge_values(values), schema())


def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    return found


def test_the_schema_is_one_and_says_something_about_every_value() -> None:
    jsonschema.Draft7Validator.check_schema(schema())
    defaults = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    undescribed = []

    def look(name: str, part: dict[str, Any], value: Any) -> None:
        if not part.get("description"):
            undescribed.append(name)
        if "properties" in part and name != ".settings":
            assert part["additionalProperties"] is False, name
            known = set(part["properties"]) - {"global"}
            assert known == set(value), name
            for key in known:
                look(f"{name}.{key}", part["properties"][key], value[key])

    root = {**schema(), "description": "."}
    look("", root, defaults)
    assert undescribed == []


def test_the_settings_of_the_schema_are_those_of_the_sidecar() -> None:
    assert set(ServeSettings.model_fields) > OF_THE_CHART
    assert schema()["properties"]["settings"] == settings_schema(), (
        "run: python deploy/helm/settings_schema.py"
    )


def test_the_versions_are_the_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    found = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert found["version"] == found["appVersion"] == project["version"]
    assert found["kubeVersion"] == f">={OLDEST}.0-0"
