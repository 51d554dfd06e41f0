"""Prometheus metrics: names and labels, never a prompt or a request id."""

from __future__ import annotations

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

WORKERS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Variable of prometheus_client: where several workers of one sidecar keep their metrics."""

_Workers = Literal["mostrecent", "livemin", "livemax", "livesum"]
"""How the values of several workers become one."""


class Metrics:
    """All metrics of one process.

    Parameters
    ----------
    registry
        Where they are registered.

    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=self.registry)

        self.decisions = counter(
            "stopper_decisions_total", "Decisions at cues and on requests.", "decision", "reason"
        )
        self.decision_seconds = Histogram(
            "stopper_decision_seconds",
            "Time to decide one body of events.",
            buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0),
            registry=self.registry,
        )
        self.probe_score = Histogram(
            "stopper_probe_score",
            "Shaped scores at cues (logits).",
            buckets=(-8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8),
            registry=self.registry,
        )
        self.saved = counter(
            "stopper_thinking_tokens_saved_estimate_total",
            "Thinking tokens that stopped requests would have made more, estimated.",
        )
        self.fail_open = counter(
            "stopper_fail_open_total", "Faults survived by not stopping.", "cause"
        )
        self.not_applied = counter(
            "stopper_not_applied_total", "Requests to which the promise was not applied.", "cause"
        )
        self.audits = counter("stopper_audits_total", "Audited requests.", "outcome")
        self.audits_without_answer = counter(
            "stopper_audits_without_answer_total",
            "Audits that count as bad because an answer is missing.",
            "which",
        )
        self.responses = counter(
            "stopper_front_responses_total",
            "Responses of the OpenAI-compatible front, by HTTP status; broken_off: in the middle.",
            "status",
        )
        self.upstream_failures = counter(
            "stopper_upstream_failures_total",
            "Requests that an engine did not take, broke off, or was silent on.",
            "upstream",
        )
        self._add_gauges()
        self.context_compressions = counter(
            "stopper_context_compressions_total",
            "Compressions of documents, by where they came from and what became of them.",
            "source",
            "reason",
        )
        self.context_faults = counter(
            "stopper_context_faults_total",
            "Compressions that came to nothing; through the front the documents went on whole.",
            "source",
            "cause",
        )
        self.context_tokens_in = counter(
            "stopper_context_tokens_in_total", "Tokens of documents to compress, estimated."
        )
        self.context_tokens_out = counter(
            "stopper_context_tokens_out_total", "Tokens of what was left of them, estimated."
        )
        self.context_seconds = Histogram(
            "stopper_context_seconds",
            "Time to compress the documents of one request, waiting included.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
            registry=self.registry,
        )

    def _add_gauges(self) -> None:
        """Add what is shown as it stands: see `stopper.service.gauges`."""

        def gauge(name: str, text: str, *labels: str, workers: _Workers = "mostrecent") -> Gauge:
            return Gauge(name, text, labels, registry=self.registry, multiprocess_mode=workers)

        self.ready = gauge(
            "stopper_ready", "1 while this replica takes requests, as /readyz says.",
            workers="livemin",
        )  # fmt: skip
        self.store_up = gauge(
            "stopper_store_up",
            "1 while the store answers; while it does not, nothing is stopped.",
            workers="livemin",
        )
        self.kill_switch = gauge("stopper_kill_switch", "1 while the kill switch is on.")
        self.alarm = gauge(
            "stopper_alarm", "1 while the drift alarm of an active artifact stands.", "artifact"
        )
        self.artifact_info = gauge(
            "stopper_artifact_info",
            "1 for each active artifact.",
            "model", "artifact", "method", "loss",
        )  # fmt: skip
        self.artifact_alpha = gauge(
            "stopper_artifact_alpha",
            "Tolerated share of bad stops of requests that name none.",
            "model", "artifact",
        )  # fmt: skip
        self.artifact_expires = gauge(
            "stopper_artifact_expires_timestamp_seconds",
            "When an active artifact expires; NaN: never.",
            "model", "artifact",
        )  # fmt: skip
        self.artifact_unavailable = gauge(
            "stopper_artifact_unavailable",
            "1 while nothing is stopped for a model: its artifact expired, or cannot be loaded.",
            "model",
            workers="livemax",
        )
        self.upstream_up = gauge(
            "stopper_upstream_up",
            "1 while an engine answers when it is asked for its models.",
            "upstream",
            workers="livemin",
        )
        self.upstream_breaker_open = gauge(
            "stopper_upstream_breaker_open",
            "1 while the circuit breaker keeps requests from an engine.",
            "upstream",
            workers="livemax",
        )
        self.upstream_requests = gauge(
            "stopper_upstream_requests",
            "Requests that run on an engine through the front.",
            "upstream",
            workers="livesum",
        )
        self.audits_waiting = gauge(
            "stopper_audits_waiting", "Audits of this replica not in the store yet.",
            workers="livesum",
        )  # fmt: skip

        def monitored(name: str, text: str, *labels: str) -> Gauge:
            return gauge(name, f"{text} (of all replicas together).", "artifact", *labels)

        self.audited = monitored("stopper_audited_requests", "Audits counted by the drift monitor")
        self.bad_share = monitored("stopper_bad_stop_share", "Share of audits with a bad stop")
        self.bad_share_low = monitored(
            "stopper_bad_stop_share_low", "Lower 95 % bound on the mean risk, valid at all times"
        )
        self.bad_share_high = monitored(
            "stopper_bad_stop_share_high", "Upper 95 % bound on the mean risk, valid at all times"
        )
        self.audited_alpha = monitored(
            "stopper_audited_alpha", "Mean alpha of the audits, which the risk must not exceed"
        )
        self.drift_evidence = monitored(
            "stopper_drift_evidence", "Where the drift test stands: log10 of the evidence"
        )
        self.drift_bar = monitored("stopper_drift_bar", "Where the drift test raises the alarm")
        self.profile_warning = monitored(
            "stopper_profile_warning", "1 where traffic has left the calibration profile", "panel"
        )
