"""Prometheus metrics: names and labels, never a prompt or a request id."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

WORKERS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Variable of prometheus_client: where several workers of one sidecar keep their metrics."""


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
        self.artifact_info = Gauge(
            "stopper_artifact_info",
            "1 for each active artifact.",
            ("model", "artifact", "method", "loss"),
            registry=self.registry,
            multiprocess_mode="mostrecent",
        )
        self.store_up = Gauge(
            "stopper_store_up",
            "1 while the store answers; while it does not, nothing is stopped.",
            registry=self.registry,
            multiprocess_mode="livemin",
        )
        self.alarm = Gauge(
            "stopper_alarm",
            "1 while the drift alarm of an active artifact stands.",
            ("artifact",),
            registry=self.registry,
            multiprocess_mode="mostrecent",
        )
        self.kill_switch = Gauge(
            "stopper_kill_switch",
            "1 while the kill switch is on.",
            registry=self.registry,
            multiprocess_mode="mostrecent",
        )
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
