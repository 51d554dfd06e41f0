"""What the engine would have done on recorded traces, decision by decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from calibration.comparers import get_comparer
from calibration.scores import read_tables
from calibration.traces import TraceDataset
from probes.events import CueEvent, Trace
from probes.shaping import shape
from stopper.artifact import Artifact
from stopper.calibrating import require_probe, require_same_setting
from stopper.policy import Decision, StopPolicy

Verdict = Literal["good", "bad", "unknown"]

LabelledTrace = tuple[Trace, Sequence[str | None]]
"""A scored trace and the name of each of its cues."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One trace under the artifact's rule.

    Attributes
    ----------
    trace_id, group, tokens, cues
        Of the trace; tokens are those of its full thinking.
    decision
        "stop", or "keep" where it thinks to its end.
    reason
        The engine's, of the cue that stopped it or else of its last cue; "no_cue" without one.
    position, cue, label, score
        Of the cue that stopped it: thinking tokens, index from 0, name, shaped float32 logit.
    threshold
        What scores were compared with; infinite ones as the strings of the manifest.
    stop_is
        "good" or "bad" under the calibrated loss, "unknown" where a label is missing.
    """

    trace_id: str
    group: str
    tokens: int
    cues: int
    decision: Literal["stop", "keep"]
    reason: str
    position: int | None
    cue: int | None
    label: str | None
    score: float | None
    threshold: float | str
    stop_is: Verdict | None

    def to_json(self) -> dict[str, Any]:
        """Return the line of ``stopper replay --out``."""
        return asdict(self)


@dataclass
class Summary:
    """Sums over replayed traces."""

    traces: int = 0
    tokens_full: int = 0
    tokens: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    stops: Counter[str] = field(default_factory=Counter)

    def add(self, one: Replayed) -> None:
        """Count one trace."""
        self.traces += 1
        self.tokens_full += one.tokens
        self.tokens += one.tokens if one.position is None else one.position
        self.reasons[one.reason] += 1
        if one.stop_is is not None:
            self.stops[one.stop_is] += 1

    def to_json(self) -> dict[str, Any]:
        """Return the figures of ``stopper replay --json``."""
        return {
            "traces": self.traces,
            "stopped": self.stops.total(),
            "good": self.stops["good"],
            "bad": self.stops["bad"],
            "unknown": self.stops["unknown"],
            "mean_tokens_full": self.tokens_full / self.traces,
            "mean_tokens": self.tokens / self.traces,
            "reasons": dict(sorted(self.reasons.items())),
        }


def first_stop(scores: npt.NDArray[np.float32], limit: np.float32) -> int | None:
    """Find the first cue at which :class:`stopper.policy.StopPolicy` stops; None without one."""
    passing = np.flatnonzero((scores > limit) & np.isfinite(scores))
    return int(passing[0]) if passing.size else None


def verdict(loss: str, cue: CueEvent, full_correct: bool | None) -> Verdict:
    """Judge a stop at a cue as :func:`calibration.losses.bad_cues` does, or say "unknown"."""
    if loss == "harm" and full_correct is not True:
        # Where the full trace is wrong, a stop harms nothing.
        return "unknown" if full_correct is None else "good"
    label = cue.agrees if loss == "disagree" else cue.correct
    return "unknown" if label is None else "good" if label else "bad"


def replay(
    policy: StopPolicy, alpha: float, loss: str, traces: Iterable[LabelledTrace]
) -> Iterator[Replayed]:
    """Decide each trace as the engine would, one at a time.

    Parameters
    ----------
    policy, alpha
        The threshold is the policy's for this alpha.
    loss
        By which stops are judged; missing labels change no decision.
    traces
        Scored, shaping included.
    """
    limit = policy.threshold(alpha)
    spelled: float | str = float(limit)
    if np.isinf(limit):
        spelled = "Infinity" if limit > 0 else "-Infinity"
    for trace, labels in traces:
        scores = np.array([cue.score for cue in trace.cues], dtype=np.float32)
        at = first_stop(scores, limit)
        decided = policy.decide(scores[-1 if at is None else at], alpha) if len(scores) else None
        stopped = None if at is None else trace.cues[at]
        yield Replayed(
            trace_id=trace.trace_id,
            group=trace.group,
            tokens=trace.tokens,
            cues=len(trace.cues),
            decision="keep" if stopped is None else "stop",
            reason=_reason(decided),
            position=None if stopped is None else stopped.position,
            cue=at,
            label=None if at is None else labels[at],
            score=None if at is None else float(scores[at]),
            threshold=spelled,
            stop_is=None if stopped is None else verdict(loss, stopped, trace.full_correct),
        )


def stored_traces(artifact: Artifact, folder: Path) -> Iterator[LabelledTrace]:
    """Score a trace store with the artifact's probe, one trace at a time.

    Raises
    ------
    InputError
        If the artifact has no probe, or the store is of another model, cue spec or closing.
    """
    probe = require_probe(artifact, folder)
    dataset = TraceDataset(folder)
    require_same_setting(artifact, dataset.meta, folder)
    wanted = dataset.meta.columns(probe.spec.layers)
    comparer = get_comparer(dataset.meta.comparer)
    for record in dataset:
        scores = shape(probe.score(record.hidden[:, wanted]), probe.spec)
        yield record.scored(scores, comparer), [cue.label for cue in record.cues]


def given_traces(path: Path) -> Iterator[LabelledTrace]:
    """Read a user's own scores, JSON Lines or Parquet; their cues have no names."""
    for table in read_tables(path):
        for trace in table.traces():
            yield trace, [None] * len(trace.cues)


def _reason(decided: Decision | None) -> str:
    return "no_cue" if decided is None else decided.reason
