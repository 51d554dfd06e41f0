"""Renders the chart with Helm's own engine, for the tests."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "deploy" / "helm" / "stopper"
OLDEST = "1.29"
"""The oldest Kubernetes of Chart.yaml."""

SMALL: dict[str, Any] = {
    "artifacts": [{"folder": "tiny"}],
    "artifactVolume": {"persistentVolumeClaim": {"claimName": "artifacts"}},
    "keys": {"allowOpen": True},
}
"""The least that the chart takes."""

KEYS = '[[keys]]\nname = "ops"\nsha256 = "' + "0" * 64 + '"\nscopes = ["admin"]\n'

SEPARATE: dict[str, Any] = {
    "replicas": 3,
    "image": {"repository": "registry.example.com/stopper", "tag": "7", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "artifacts": [{"folder": "qwen3-8b", "model": "Qwen/Qwen3-8B"}, {"folder": "tiny"}],
    "artifactVolume": {"image": {"reference": "registry.example.com/artifacts:7"}},
    "upstreams": [
        {"url": "http://one:8000", "apiKeySecret": {"name": "one", "key": "api-key"}},
        {"url": "https://two.example.com/engine"},
    ],
    "keys": {"toml": KEYS + "created = 2026-01-02T03:04:05+00:00\n"},
    "redis": {"url": "redis://redis:6379/0"},
    "settings": {
        "alpha": 0.05,
        "workers": 2,
        "audits": {"share": 0.1, "log": "/audits/log.jsonl"},
        "context": {"enabled": True, "floor": 2},
        "limits": {"body_bytes": 33554432, "drain_s": 90.5, "requests_per_minute": 600},
        "proxy": {"retries": 1},
        "schedule": {"kind": "linear", "high": 6},
        "log_level": "debug",
    },
    "service": {"type": "LoadBalancer", "port": 80, "annotations": {"a/b": "c"}},
    "preStopSeconds": 10,
    "podDisruptionBudget": {"maxUnavailable": "25%"},
    "networkPolicy": {
        "enabled": True,
        "clients": [{"namespaceSelector": {"matchLabels": {"team": "chat"}}}],
        "monitoring": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 6379}]}],
    },
    "monitoring": {
        "serviceMonitor": {
            "enabled": True, "interval": "30s", "labels": {"release": "prometheus"},
            "bearerTokenSecret": {"name": "scrape", "key": "token"},
        },
        "rules": {"enabled": True, "runbookPrefix": "https://example.com/stopper/"},
        "dashboard": {"enabled": True},
    },
    "serviceAccount": {"annotations": {"a/b": "c"}},
    "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
    "podAnnotations": {"a/b": "c"},
    "podLabels": {"team": "chat"},
    "nodeSelector": {"kind": "cpu"},
    "tolerations": [{"key": "x", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "priorityClassName": "high",
    "extraEnv": [{"name": "STOPPER_TRACE_TTL_S", "value": "600"}],
    "extraVolumes": [{"name": "audits", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "audits", "mountPath": "/audits"}],
}  # fmt: skip
"""Every option of layout separate."""

POD: dict[str, Any] = {
    "layout": "pod",
    "artifacts": [{"folder": "qwen3-8b", "model": "Qwen/Qwen3-8B"}],
    "artifactVolume": {"persistentVolumeClaim": {"claimName": "artifacts"}},
    "keys": {"existingSecret": "stopper-keys"},
    "redis": {"existingSecret": {"name": "redis"}},
    "autoscaling": {"enabled": True, "maxReplicas": 4},
    "networkPolicy": {"enabled": True, "monitoring": [{"namespaceSelector": {}}]},
    "serviceAccount": {"create": False},
    "vllm": {
        "model": "/models/qwen3-8b",
        "reasoningParser": "qwen3",
        "args": ["--max-model-len", "32768"],
        "plugin": {"alpha": 0.02, "decisions": "/cache/decisions.jsonl"},
        "env": [{"name": "VLLM_LOGGING_LEVEL", "value": "INFO"}],
        "modelVolume": {"nfs": {"server": "nfs", "path": "/models"}},
        "cacheVolume": {"ephemeral": {"volumeClaimTemplate": {"spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "100Gi"}},
        }}}},
        "startupMinutes": 45,
    },
}  # fmt: skip
"""Every option of the engine in layout pod."""

SETS = {"small": SMALL, "separate": SEPARATE, "pod": POD}


def changed(values: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a copy of values with dotted names set, such as `keys__toml="x"`."""
    found = copy.deepcopy(values)
    for name, value in changes.items():
        *path, last = name.split("__")
        here = found
        for part in path:
            here = here.setdefault(part, {})
        here[last] = value
    return found


@functools.cache
def chart() -> helm_python.Chart:
    """Load the chart, once."""
    helm_python.disable_logging()
    return helm_python.Chart.load(CHART)


def texts(values: dict[str, Any], release: str = "mine") -> dict[str, str]:
    """Render; return what each template makes, by its name below templates/."""
    chart().validate_schema(values)
    made = chart().render(values, name=release, namespace="models")
    prefix = "stopper/templates/"
    return {name.removeprefix(prefix): text for name, text in made.items() if text.strip()}


class OnceLoader(yaml.CSafeLoader):
    """Refuses a key that comes twice, as Kubernetes does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Read a mapping."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]  # type: ignore[no-untyped-call]
        assert len(keys) == len(set(keys)), f"a key comes twice: {keys}"
        return super().construct_mapping(node, deep)


def objects(values: dict[str, Any], release: str = "mine") -> dict[str, dict[str, Any]]:
    """Render; return the objects by kind (the test's pod is the only one of its kind)."""
    found: dict[str, dict[str, Any]] = {}
    for name, text in texts(values, release).items():
        if name == "NOTES.txt":
            continue
        [made] = yaml.load_all(text, OnceLoader)
        kind = made["kind"] if name != "dashboard.yaml" else "Dashboard"
        assert kind not in found
        found[kind] = made
    return found
