"""Gauges of the engines behind the front, and how they are named in labels."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from stopper.service.metrics import Metrics
from stopper.service.proxy.servers import EngineServer


def label_of(url: str) -> str:
    """Return an engine's URL without user and password, if it has any."""
    found = urlsplit(url)
    return found._replace(netloc=found.netloc.rpartition("@")[2]).geturl()


class UpstreamGauges:
    """Shows whether each engine answers, whether it is kept from requests, and how busy it is."""

    def __init__(self, metrics: Metrics, servers: Sequence[EngineServer]) -> None:
        self._metrics = metrics
        self._servers = servers
        for server in servers:
            server.on_failure = metrics.upstream_failures.labels(label_of(server.url)).inc

    def show(self) -> None:
        """Set all of them."""
        metrics = self._metrics
        for server in self._servers:
            label = label_of(server.url)
            metrics.upstream_up.labels(label).set(float(server.reachable))
            metrics.upstream_breaker_open.labels(label).set(float(server.state == "opened"))
            metrics.upstream_requests.labels(label).set(server.running)
