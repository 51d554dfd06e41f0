"""All metrics of the sidecar, from its own registry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry

from docs.generators.markdown import code, linked, plain, table
from stopper.service.metrics import Metrics


def blocks() -> Iterator[str]:
    """Give the page's blocks."""
    yield "# Metrics"
    yield (
        "What `GET /metrics` of [the sidecar](../sidecar.md) shows, in Prometheus' text format; it "
        "needs a key of scope `read` where there are keys. No label holds a prompt or a request "
        "id. vLLM's own metrics stay at vLLM; the plugin's counters are at `GET /stopper/counters` "
        "([counters](plugin.md#counters))."
    )
    yield table(("metric", "type", "labels", ""), map(_row, families()))


def families() -> list[tuple[Any, tuple[str, ...]]]:
    """Return each collector's description with the names of its labels, in their order."""
    registry = CollectorRegistry()
    made = vars(Metrics(registry)).values()
    found = []
    for collector in made:
        if collector is not registry:
            (family,) = collector.describe()
            found.append((family, tuple(collector._labelnames)))
    return found


def _row(entry: tuple[Any, tuple[str, ...]]) -> tuple[str, ...]:
    family, labels = entry
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return (
        code(name),
        family.type,
        ", ".join(map(code, labels)),
        linked(plain(family.documentation)),
    )
