"""What a monitor says: figures, and the sentence for a person."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from calibration.monitor.panels import ProfileWarning

ACTION = (
    "Stop stopping: send every request with vllm_xargs stopper=0, or serve without stopper. Then "
    "collect traces of today's traffic, calibrate on them, and begin a new state with the new "
    "artifact"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How it stands.

    Attributes
    ----------
    alarm
        Whether the promise is taken for broken. It stays so until a new monitor begins.
    since, since_time
        The audit that raised the alarm, counted from 1.
    audits, bad
        So far.
    share, interval
        Of bad ones, with bounds on the mean risk that hold at all times (95 %).
    mean_alpha
        Of the audits: what the risk must not exceed. None before the first.
    value, bar
        Of the test: log10 of the evidence and log10(1 / delta), or for "mapie" its bound and alpha.
    warnings
        Advisory; as a rule earlier than an alarm.
    watched
        The panels of the profile that are watched.
    repeated, late
        Audits left out: request ids counted before, and those too old to tell.
    tallies
        (alpha, audits, bad) of each of the first 256 alphas that were asked for, ascending.
    """

    alarm: bool
    since: int | None
    since_time: datetime | None
    audits: int
    bad: int
    share: float
    interval: tuple[float, float]
    mean_alpha: float | None
    value: float
    bar: float
    warnings: tuple[ProfileWarning, ...]
    watched: tuple[str, ...]
    repeated: int
    late: int
    tallies: tuple[tuple[float, int, int], ...]

    @property
    def figures(self) -> str:
        """Say it in words, without judging."""
        if self.mean_alpha is None:
            return "no audits yet: nothing can be said"
        low, high = self.interval
        return (
            f"{self.bad} of {self.audits} audits would have stopped badly ({self.share:.1%}; risk "
            f"between {low:.1%} and {high:.1%}), alpha {self.mean_alpha:g}"
        )

    @property
    def sentence(self) -> str:
        """Say it in words, and on alarm what to do."""
        if self.mean_alpha is None:
            return f"{self.figures}."
        if self.alarm:
            return f"ALARM since audit {self.since} ({self.since_time}): {self.figures}. {ACTION}."
        return f"in control: {self.figures}."

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON."""
        fields = asdict(self)
        fields["since_time"] = None if self.since_time is None else self.since_time.isoformat()
        fields["warnings"] = [warning.model_dump(mode="json") for warning in self.warnings]
        fields["sentence"] = self.sentence
        return fields
