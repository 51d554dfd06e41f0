"""One artifact's monitor: audits in, a new state and its figures out. Pure: knows no store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from calibration.monitor import Audit, Monitor, Settings, Verdict
from calibration.monitor.panels import PANELS
from calibration.profile import Profile
from probes.errors import InputError
from stopper.service.audits.pages import Head, join, split
from stopper.service.catalog import Served
from stopper.service.settings import AuditSettings
from stopper.service.status.records import Panel, Standing, Warned

Fate = Literal["counted", "repeated", "late", "before_rearm", "other_alpha"]
"""What became of an audit; only "counted" moves the figures.

repeated: its request was counted before. late: too old to tell whether it was. before_rearm:
finished before an operator re-armed the alarm, so that it belongs to the state that is closed.
other_alpha: the method "mapie" judges one alpha alone.
"""


@dataclass(frozen=True, slots=True)
class Watch:
    """What a monitor of one artifact version watches.

    Attributes
    ----------
    profile
        Of the calibration traces; None watches none.
    alpha
        The one that is judged; None judges each audit by its own.
    since
        Earlier audits are left out; None takes all.

    """

    settings: Settings
    profile: Profile | None
    alpha: float | None
    since: datetime | None

    @classmethod
    def of(cls, served: Served, asked: AuditSettings, since: datetime | None) -> Watch:
        """Say what is watched of an artifact."""
        settings = Settings(served.version, served.record.loss, asked.method, asked.delta)
        only = served.alpha if asked.method == "mapie" else None
        return cls(settings, served.artifact.manifest.profile, only, since)


@dataclass(frozen=True, slots=True)
class Entered:
    """A state with audits in it: its parts, what became of each audit, and the figures."""

    head: Head
    pages: dict[str, bytes]
    fates: list[Fate]
    verdict: Verdict
    standing: Standing


def enter(
    watch: Watch, head: Head | None, pages: Mapping[str, bytes], audits: Sequence[Audit], now: str
) -> Entered:
    """Take audits in, in their order.

    Parameters
    ----------
    head, pages
        Of the state to go on from; None begins one.
    audits
        Of this artifact.
    now
        ISO 8601, for the standing.

    Raises
    ------
    InputError
        If the state is damaged, or was begun with other settings.

    """
    source = f"audits of artifact {watch.settings.artifact}"
    state = None if head is None else join(head, pages, source)
    try:
        monitor = Monitor(watch.settings, watch.profile, state)
        early: dict[int, Fate] = {}
        for place, audit in enumerate(audits):
            if watch.since is not None and audit.time < watch.since:
                early[place] = "before_rearm"
            elif watch.alpha is not None and audit.alpha != watch.alpha:
                early[place] = "other_alpha"
        taken = iter(monitor.take([a for place, a in enumerate(audits) if place not in early]))
    except InputError as problem:
        raise InputError(
            f"{source}: {problem} Put the old settings back, or begin a new state: POST "
            "/v1/alarm/re-arm"
        ) from None
    fates: list[Fate] = []
    for place in range(len(audits)):
        fate = early.get(place)
        if fate is None:
            found = next(taken)
            fate = "counted" if found == "new" else found
        fates.append(fate)
    verdict = monitor.verdict()
    figures = standing(monitor, verdict, now)
    return Entered(*split(monitor.state(), figures), fates, verdict, figures)


def standing(monitor: Monitor, verdict: Verdict, now: str) -> Standing:
    """Give a monitor's figures as the status has them."""
    settings = monitor.settings
    return Standing(
        artifact=settings.artifact,
        audits=verdict.audits,
        bad=verdict.bad,
        share=verdict.share,
        low=verdict.interval[0],
        high=verdict.interval[1],
        alpha=verdict.mean_alpha,
        value=verdict.value,
        bar=verdict.bar,
        label=monitor.label,
        method=settings.method,
        delta=settings.delta,
        alarm=verdict.alarm,
        since=verdict.since,
        since_time=None if verdict.since_time is None else verdict.since_time.isoformat(),
        repeated=verdict.repeated,
        late=verdict.late,
        warnings=[
            Warned(found.panel, found.text, found.audits, found.time.isoformat(), found.distance)
            for found in verdict.warnings
        ],
        panels=[
            Panel(
                panel.name,
                PANELS[panel.name],
                list(panel.reference.edges),
                list(panel.reference.counts),
                list(panel.counts),
            )
            for panel in monitor.panels
        ],
        sentence=verdict.figures,
        updated=now,
    )
