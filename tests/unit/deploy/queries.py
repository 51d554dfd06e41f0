"""What a PromQL expression asks for, and which metrics there really are."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from prometheus_client import Counter, Gauge, Histogram

from stopper.exposition import FAMILIES
from stopper.service.audits import desk, watching
from stopper.service.decisions.tally import _DECISION
from stopper.service.metrics import Metrics
from stopper.wire import Outcome

TARGET = frozenset({"namespace", "job", "instance"})
"""Labels that Prometheus adds to whatever it scrapes."""

WORDS = frozenset({"and", "or", "unless", "on", "by", "offset", "ignoring", "group_left"})
VALUES = {
    "decision": {*get_args(Outcome), *_DECISION.values(), "continue", "marked"},
    # Besides what the desk gives: docs/sidecar.md has the whole table.
    "outcome": {"good", "bad", "queue_full", *get_args(watching.Fate), *get_args(desk.Fate)},
}


@dataclass(frozen=True)
class Selected:
    """A metric with the labels it is selected by, and their values."""

    metric: str
    matchers: tuple[tuple[str, str], ...]


def exported() -> dict[str, frozenset[str]]:
    """Return each sample that sidecar and plugin export, with its labels."""
    found = of_sidecar()
    for name, label, _ in FAMILIES.values():
        found[name] = frozenset({label})
    return found


def of_sidecar() -> dict[str, frozenset[str]]:
    """Return each sample that the sidecar exports, with its labels."""
    metrics = Metrics()
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram) and metric._labelnames:
            metric.labels(*["x"] * len(metric._labelnames))
    return {
        sample.name: frozenset(sample.labels)
        for family in metrics.registry.collect()
        for sample in family.samples
    }


def of_vllm() -> dict[str, frozenset[str]]:
    """Return the counters and gauges that the installed vLLM exports."""
    spec = importlib.util.find_spec("vllm.v1.metrics.loggers")
    assert spec is not None
    assert spec.origin is not None
    names = re.findall(r'name="(vllm:\w+)"', Path(spec.origin).read_text())
    labels = frozenset({"model_name", "engine"})
    return {name + suffix: labels for name in names for suffix in ("", "_total")}


def selected(expression: str) -> Iterator[Selected]:
    """Yield the metrics of an expression; what is no function, word or label counts as one."""
    rest = re.sub(r"\b(?:by|on|ignoring|group_left)\s*\([^)]*\)", " ", expression)
    rest = re.sub(r"\[[^]]*\]", " ", rest)
    for name, call, matchers in re.findall(
        r'([A-Za-z_:][\w:]*)\s*(\()?(?:\{((?:[^}"]|"[^"]*")*)\})?', _without_loose_words(rest)
    ):
        if not call and name not in WORDS:
            yield Selected(name, tuple(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"', matchers)))


def _without_loose_words(text: str) -> str:
    """Drop durations such as `1h`, which are no names."""
    return re.sub(r"\b\d+(?:\.\d+)?(?:ms|[smhdwy])?\b", " ", text)


def grouped(expression: str) -> set[str]:
    """Return the labels that an expression groups or matches by."""
    lists = re.findall(r"\b(?:by|on|ignoring|group_left)\s*\(([^)]*)\)", expression)
    return {label.strip() for found in lists for label in found.split(",") if label.strip()}


def faults(expression: str, known: dict[str, frozenset[str]]) -> list[str]:
    """Return what an expression asks for that does not exist."""
    found, labels = [], set(TARGET)
    names = list(selected(expression))
    if not names:
        found.append("no metric")
    for one in names:
        if one.metric not in known:
            found.append(one.metric)
            continue
        own = known[one.metric] | TARGET
        labels |= own
        for label, pattern in one.matchers:
            if label not in own:
                found.append(f"{one.metric}{{{label}}}")
            if label in VALUES and "$" not in pattern:
                values = set(pattern.split("|"))
                found += [f"{label}={value}" for value in values - VALUES[label]]
    return found + [f"by ({label})" for label in grouped(expression) - labels]
