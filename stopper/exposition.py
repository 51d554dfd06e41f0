"""An engine's counters in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST

FAMILIES: Mapping[str, tuple[str, str, str]] = {
    "decisions": (
        "stopper_engine_decisions_total", "decision", "Finished requests, by what was decided.",
    ),
    "not_applied": (
        "stopper_engine_not_applied_total", "reason",
        "Finished requests to which the promise was not applied.",
    ),
    "fail_open": (
        "stopper_engine_fail_open_total", "cause",
        "Faults survived by not stopping; in remote mode also cues that were not decided on.",
    ),
    "remote": (
        "stopper_engine_remote_cues_total", "outcome",
        "Cues that the sidecar was to decide on (events), and those that it did (answered).",
    ),
}  # fmt: skip
"""Group of the counters to metric, label and help."""


class _Counters(Collector):
    def __init__(self, counters: Mapping[str, Mapping[str, int]]) -> None:
        self._counters = counters

    def collect(self) -> Iterator[CounterMetricFamily]:
        for group, (name, label, text) in FAMILIES.items():
            family = CounterMetricFamily(name, text, labels=[label])
            for value, number in self._counters.get(group, {}).items():
                family.add_metric([value], number)
            yield family


def exposition(counters: Mapping[str, Mapping[str, int]]) -> bytes:
    """Write the counters of `GET /stopper/counters` for Prometheus.

    Parameters
    ----------
    counters
        By group (the keys of `FAMILIES`) and label; a group that is not there has no samples.

    """
    registry = CollectorRegistry()
    registry.register(_Counters(counters))
    return generate_latest(registry)
