"""The monitor: one stream of audits in, one verdict out, at any time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from calibration.monitor.audits import Audit
from calibration.monitor.evidence import evidence, risk_interval
from calibration.monitor.panels import Panel, PanelState, references, values_of
from calibration.monitor.requests import Requests, Taken
from calibration.monitor.state import AlarmState, MonitorState, Point, Tally, read_state
from calibration.monitor.verdict import Verdict
from calibration.profile import Histogram, Profile
from probes.errors import InputError

LONGEST_TRAIL = 1024
MOST_TALLIES = 256
DELTA = 0.01
WARNING_DELTA = 0.05


@dataclass(frozen=True, slots=True)
class Settings:
    """What a monitor watches, and how.

    Attributes
    ----------
    artifact, loss_name
        Whose audits; others are refused. Evidence about one artifact says nothing of another.
    method
        Of :data:`calibration.monitor.METHODS`.
    delta
        Probability of any false alarm, ever, while every request's risk is at most its alpha.
    warning_delta
        Probability of any profile warning, ever, while traffic is like the calibration traces.
    """

    artifact: str
    loss_name: str
    method: str = "betting"
    delta: float = DELTA
    warning_delta: float = WARNING_DELTA

    def __post_init__(self) -> None:
        for name in ("delta", "warning_delta"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(
                    f"{name} must lie between 0 and 1, both excluded; got {getattr(self, name)}."
                )


class Monitor:
    """Collects the audits of one artifact.

    Safe to share between threads: each call holds one lock. Not between processes: two monitors of
    one stream would each see half of it; send the audits of all replicas to one.

    The order of the audits must not depend on their losses: take them as they finish. Audits at
    several alphas share the stream, each judged by its own alpha ("mapie" refuses a second alpha).

    Parameters
    ----------
    settings
        What to watch.
    profile
        The artifact's; with None no profile is watched.
    state
        To go on from.

    Raises
    ------
    InputError
        When the state is of other settings or of another profile.
    """

    def __init__(
        self, settings: Settings, profile: Profile | None = None, state: MonitorState | None = None
    ) -> None:
        self.settings = settings
        self._lock = Lock()
        self._evidence = evidence(settings.method, settings.delta)
        if state is None:
            state = MonitorState.model_validate(
                {
                    "artifact": settings.artifact,
                    "loss_name": settings.loss_name,
                    "delta": settings.delta,
                    "warning_delta": settings.warning_delta,
                    "evidence": self._evidence.state(),
                }
            )
        _require_same(settings, state)
        watched = references(profile)
        if state.audits:
            _require_same_panels(watched, state.panels)
        self._evidence = evidence(settings.method, settings.delta, state.evidence)
        level = settings.warning_delta / max(1, len(watched))
        self._panels = {
            name: Panel(name, histogram, level, state.panels.get(name))
            for name, histogram in watched.items()
        }
        self._requests = Requests(state.requests)
        self._audits, self._bad, self._alpha_sum = state.audits, state.bad, state.alpha_sum
        self._repeated, self._late = state.repeated, state.late
        self._alarm = state.alarm
        self._tallies = {tally.alpha: (tally.audits, tally.bad) for tally in state.tallies}
        self._trail, self._stride = list(state.trail), state.stride

    @classmethod
    def resume(cls, settings: Settings, profile: Profile | None, path: str | Path) -> Monitor:
        """Go on from a state file; begin anew where there is none.

        Raises
        ------
        InputError
            When the file is damaged, or of other settings.
        """
        if not Path(path).exists():
            return cls(settings, profile)
        try:
            return cls(settings, profile, read_state(path))
        except InputError as problem:
            text = str(problem)
            raise InputError(text if str(path) in text else f"{path}: {text}") from None

    @property
    def label(self) -> str:
        """What :attr:`Verdict.value` is, in words."""
        return self._evidence.label

    @property
    def panels(self) -> tuple[Panel, ...]:
        """The watched panels of the profile."""
        return tuple(self._panels.values())

    def update(self, audits: Iterable[Audit]) -> Verdict:
        """Take audits in, in their order; all of them, or none on an error.

        Cutting a stream into other batches changes nothing.

        Raises
        ------
        InputError
            When one is of another artifact or loss, or of an alpha that the method cannot judge.
        """
        with self._lock:
            self._judge(list(audits))
            return self._verdict()

    def take(self, audits: Iterable[Audit]) -> list[Taken]:
        """Take audits in as :meth:`update` does; say of each whether it was new, and so counts.

        Raises
        ------
        InputError
            As :meth:`update`.
        """
        with self._lock:
            return self._judge(list(audits))

    def verdict(self) -> Verdict:
        """Say how it stands."""
        with self._lock:
            return self._verdict()

    def state(self) -> MonitorState:
        """Give all that the future depends on."""
        with self._lock:
            return MonitorState.model_validate(
                {
                    "artifact": self.settings.artifact,
                    "loss_name": self.settings.loss_name,
                    "delta": self.settings.delta,
                    "warning_delta": self.settings.warning_delta,
                    "audits": self._audits,
                    "bad": self._bad,
                    "alpha_sum": self._alpha_sum,
                    "repeated": self._repeated,
                    "late": self._late,
                    "tallies": [
                        Tally(alpha=alpha, audits=audits, bad=bad)
                        for alpha, (audits, bad) in self._tallies.items()
                    ],
                    "evidence": self._evidence.state(),
                    "alarm": self._alarm,
                    "panels": {name: panel.state() for name, panel in self._panels.items()},
                    "stride": self._stride,
                    "trail": self._trail,
                    "requests": self._requests.state(),
                }
            )

    def trail(self) -> list[Point]:
        """Give the course so far, thinned to at most 1,024 points, with where it stands now."""
        with self._lock:
            if not self._audits:
                return []
            kept = self._trail and self._trail[-1].audits == self._audits
            return [*self._trail] if kept else [*self._trail, self._point()]

    def _judge(self, batch: list[Audit]) -> list[Taken]:
        for audit in batch:
            self._require_own(audit)
        self._evidence.admit({audit.alpha for audit in batch})
        found = []
        for audit in batch:
            taken = self._requests.take(audit)
            found.append(taken)
            if taken == "repeated":
                self._repeated += 1
            elif taken == "late":
                self._late += 1
            else:
                self._take(audit)
        return found

    def _require_own(self, audit: Audit) -> None:
        for name in ("artifact", "loss_name"):
            wanted, got = getattr(self.settings, name), getattr(audit, name)
            if got != wanted:
                raise InputError(
                    f"audit {audit.request_id!r}: {name} is {got!r}, this monitor watches "
                    f"{wanted!r}; keep one monitor (and one state) per artifact."
                )

    def _take(self, audit: Audit) -> None:
        self._audits += 1
        self._bad += audit.loss
        self._alpha_sum += audit.alpha
        if audit.alpha in self._tallies or len(self._tallies) < MOST_TALLIES:
            audits, bad = self._tallies.get(audit.alpha, (0, 0))
            self._tallies[audit.alpha] = audits + 1, bad + audit.loss
        self._evidence.update(bool(audit.loss), audit.alpha)
        if self._alarm is None and self._evidence.alarming:
            self._alarm = AlarmState(audits=self._audits, time=audit.time)
        for name, value in values_of(audit).items():
            if value is not None and name in self._panels:
                self._panels[name].update(value, audit, self._audits)
        if self._audits % self._stride == 0:
            self._trail.append(self._point())
            if len(self._trail) == LONGEST_TRAIL:
                self._trail = self._trail[1::2]
                self._stride *= 2

    def _point(self) -> Point:
        return Point(
            audits=self._audits,
            bad=self._bad,
            mean_alpha=self._alpha_sum / self._audits,
            value=self._evidence.value,
            bar=self._evidence.bar,
        )

    def _verdict(self) -> Verdict:
        panels = self._panels.values()
        return Verdict(
            alarm=self._alarm is not None,
            since=None if self._alarm is None else self._alarm.audits,
            since_time=None if self._alarm is None else self._alarm.time,
            audits=self._audits,
            bad=self._bad,
            share=self._bad / self._audits if self._audits else 0.0,
            interval=risk_interval(self._bad, self._audits),
            mean_alpha=self._alpha_sum / self._audits if self._audits else None,
            value=self._evidence.value,
            bar=self._evidence.bar,
            warnings=tuple(panel.warning for panel in panels if panel.warning is not None),
            watched=tuple(self._panels),
            repeated=self._repeated,
            late=self._late,
            tallies=tuple(sorted((a, *counts) for a, counts in self._tallies.items())),
        )


def _require_same(settings: Settings, state: MonitorState) -> None:
    pairs = {
        "artifact": (state.artifact, settings.artifact),
        "loss_name": (state.loss_name, settings.loss_name),
        "method": (state.evidence.kind, settings.method),
        "delta": (state.delta, settings.delta),
        "warning_delta": (state.warning_delta, settings.warning_delta),
    }
    for name, (kept, asked) in pairs.items():
        if kept != asked:
            raise InputError(
                f"the state was begun with {name} {kept!r}, asked for is {asked!r}: a level or a "
                "stream changed midway would void the promise. Give the same, or begin with a new "
                "state file."
            )


def _require_same_panels(watched: dict[str, Histogram], panels: dict[str, PanelState]) -> None:
    bins = {name: len(histogram.counts) for name, histogram in watched.items()}
    kept = {name: panel.bins for name, panel in panels.items()}
    if bins != kept:
        raise InputError(
            f"the state's panels (bins: {kept}) are not those of the artifact's profile ({bins}); "
            "begin with a new state file."
        )
