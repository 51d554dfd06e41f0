"""The groups of the sidecar's settings: what each knows by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ArtifactSource(_Group):
    """A folder that `stopper calibrate` wrote, and the model it serves.

    In flags and variables: `DIR` or `MODEL=DIR`.

    Attributes
    ----------
    folder
        That `stopper calibrate` wrote.
    model
        The name in requests; left out: the artifact's own.

    """

    folder: Path
    model: str | None = None


class Upstream(_Group):
    """A vLLM server, such as http://127.0.0.1:8000 (without /v1).

    Attributes
    ----------
    url
        Without the route's path.
    api_key_file
        File with the engine's own key; it beats the client's.

    """

    url: Annotated[str, Field(pattern=r"^https?://[^/\s]+(/[^\s]*)?$")]
    api_key_file: Path | None = None


class ScheduleSettings(_Group):
    """SchED's threshold over progress, for events that carry logit margins (arXiv 2512.02892).

    Attributes
    ----------
    kind
        Form of the fall from `high` to `low`.
    high
        Threshold at the beginning.
    low
        Threshold at the end.
    rate
        Of the exponential one.

    """

    kind: Literal["linear", "cosine", "exponential", "thirds"] = "exponential"
    high: float = 7.5
    low: float = 2.5
    rate: Annotated[float, Field(gt=0)] = 16.0


class ProxySettings(_Group):
    """Timeouts (seconds), retries and the breaker of the OpenAI-compatible front.

    Attributes
    ----------
    connect_s
        Until an engine takes the connection.
    first_byte_s
        Until it begins to answer.
    idle_s
        Between two bytes of an answer.
    report_s
        For the engine to tell what it decided.
    retries
        Of a request that no engine can have begun on.
    breaker_failures
        In a row: the engine gets nothing more.
    breaker_reset_s
        Until it is tried again.

    """

    connect_s: Seconds = 2.0
    first_byte_s: Seconds = 600.0
    idle_s: Seconds = 120.0
    report_s: Seconds = 1.0
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    breaker_failures: Annotated[int, Field(ge=1)] = 5
    breaker_reset_s: Seconds = 10.0


class AuditSettings(_Group):
    """Which share of requests is audited, and the alarm's error rate (docs/monitoring.md).

    Attributes
    ----------
    share
        Of the requests, chosen by their ids.
    method
        Test of the drift monitor: betting or mapie.
    delta
        Probability of any false alarm, ever.
    log
        File to which every counted audit is appended.

    """

    share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.02
    method: str = "betting"
    delta: Share = 0.01
    log: Path | None = None


class ContextSettings(_Group):
    """Compression of retrieved documents (docs/context.md).

    Attributes
    ----------
    enabled
        Off: nothing of it is loaded.
    scorer
        What scores the sentences: "overlap" keeps no promise.
    artifact
        Sentence filter; left out: the one that comes along.
    threshold
        In place of an alpha, without a promise.
    alpha
        Share of queries that may lose a needed sentence, of requests that name none; left out: the
        artifact's own.
    floor
        Sentences that are kept at least.
    most_documents
        Of one request.
    timeout_s
        Of one compression, waiting included.

    """

    enabled: bool = False
    scorer: Literal["encoder", "overlap"] = "encoder"
    artifact: Path | None = None
    threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None
    alpha: Share | None = None
    floor: Annotated[int, Field(ge=0)] = 0
    most_documents: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    timeout_s: Seconds = 10.0


class LimitSettings(_Group):
    """Bounds on what a client may send.

    Attributes
    ----------
    body_bytes
        Of one body, also of a chunked one.
    header_s
        Until request line and headers are there.
    body_s
        Until the body is there.
    requests_per_minute
        From one key, or from one address where there are no keys; left out: no bound.
    concurrency
        Requests at a time in one process.
    drain_s
        That running requests get to end after SIGTERM.

    """

    body_bytes: Annotated[int, Field(ge=1024)] = 16 << 20
    header_s: Seconds = 10.0
    body_s: Seconds = 30.0
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    concurrency: Annotated[int, Field(ge=1)] = 1024
    drain_s: Seconds = 60.0
