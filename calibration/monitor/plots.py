"""The picture of a monitor: the evidence, the running risk, and the profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from calibration.files import replacing
from calibration.monitor.evidence import risk_interval
from calibration.monitor.monitor import Monitor
from calibration.monitor.panels import PANELS, Panel
from calibration.monitor.state import Point
from calibration.monitor.verdict import Verdict
from probes.errors import InputError, UnsupportedError

_INK, _CALM, _ALARM, _WARN, _THEN = "#2b2d42", "#0b6e99", "#d1495b", "#e09f3e", "#8d99ae"


def plot_monitor(monitor: Monitor, path: str | Path, title: str = "") -> None:
    """Draw how a monitor stands.

    Parameters
    ----------
    monitor
        With at least one audit.
    path
        The PNG to write; it appears when it is complete.
    title
        Above all panels.

    Raises
    ------
    InputError
        When there is nothing to draw or the file cannot be written.
    UnsupportedError
        When matplotlib is not installed.

    """
    verdict, trail = monitor.verdict(), monitor.trail()
    if not trail:
        raise InputError(f"{path}: there is no audit to plot.")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UnsupportedError(
            "plots need matplotlib; install it with `pip install 'stopper[calibrate]'`."
        ) from None
    # A figure of its own: pyplot would choose a backend and keep global state.
    panels = monitor.panels
    rows = 2 if panels else 1
    figure = Figure(figsize=(11, 4.1 * rows), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows, 6)
    _draw_evidence(figure.add_subplot(grid[0, :3]), trail, verdict, monitor.label)
    _draw_risk(figure.add_subplot(grid[0, 3:]), trail, verdict)
    span = 6 // max(1, len(panels))
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(grid[1, place * span : (place + 1) * span])
        _draw_panel(axes, panel, legend=place == 0)
    state = f"ALARM since audit {verdict.since}" if verdict.alarm else "in control"
    if not panels:
        state += " (the artifact holds no profile to compare)"
    heading = f"{title}: {state}" if title else state
    figure.suptitle(heading, fontsize=12, color=_ALARM if verdict.alarm else _INK)
    with replacing(path) as file:
        figure.savefig(file, format="png")


def _draw_evidence(axes: Any, trail: list[Point], verdict: Verdict, label: str) -> None:
    audits = [point.audits for point in trail]
    axes.plot(audits, [point.value for point in trail], color=_CALM, linewidth=1.4)
    axes.axhline(trail[-1].bar, color=_ALARM, linestyle="--", linewidth=1.2, label="the bar")
    _mark(axes, verdict)
    axes.set_xlabel("audits")
    axes.set_ylabel(label)
    axes.set_title("alarm where the evidence reaches the bar", fontsize=10)
    axes.set_xlim(left=0)
    axes.margins(y=0.1)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="best")


def _draw_risk(axes: Any, trail: list[Point], verdict: Verdict) -> None:
    audits = np.array([point.audits for point in trail])
    bounds = 100 * np.array([risk_interval(point.bad, point.audits) for point in trail])
    share = 100 * np.array([point.bad / point.audits for point in trail])
    alpha = 100 * np.array([point.mean_alpha for point in trail])
    axes.fill_between(
        audits, bounds[:, 0], bounds[:, 1], color=_CALM, alpha=0.18, label="95 %, at all times"
    )
    axes.plot(audits, share, color=_CALM, linewidth=1.4, label="marked badly")
    mean = "alpha" if len(verdict.tallies) == 1 else "mean alpha"
    axes.plot(audits, alpha, "--", color=_INK, linewidth=1.2, label=mean)
    _mark(axes, verdict)
    axes.set_xlabel("audits")
    axes.set_ylabel("of all audits so far, %")
    axes.set_title("the running risk since the start", fontsize=10)
    axes.set_xlim(left=0)
    # The first few audits say nothing and would squeeze the rest.
    settled = bounds[audits >= 0.05 * audits[-1], 1]
    axes.set_ylim(0, min(100.0, 1.15 * max(settled.max(), 1.5 * alpha.max())))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="best")


def _mark(axes: Any, verdict: Verdict) -> None:
    if verdict.since is not None:
        label = f"alarm, audit {verdict.since}"
        axes.axvline(verdict.since, color=_ALARM, linewidth=1.2, label=label)
    first = min((warning.audits for warning in verdict.warnings), default=None)
    if first is not None:
        axes.axvline(
            first, color=_WARN, linewidth=1.2, linestyle=":", label=f"first warning, audit {first}"
        )


def _draw_panel(axes: Any, panel: Panel, legend: bool) -> None:
    then = np.array(panel.reference.counts, dtype=np.float64)
    now = np.array(panel.counts, dtype=np.float64)
    places = np.arange(len(then))
    width = 0.42
    axes.bar(places - width / 2, 100 * then / then.sum(), width, color=_THEN, label="calibration")
    if now.sum():
        axes.bar(places + width / 2, 100 * now / now.sum(), width, color=_CALM, label="audits")
    edges = panel.reference.edges
    ticks = ["", *(f"{edge:.3g}" for edge in edges)]
    axes.set_xticks(places - 0.5, ticks, fontsize=7, rotation=45 if len(edges) > 6 else 0)
    axes.set_xlabel(PANELS[panel.name])
    axes.set_ylabel("requests, %")
    axes.grid(alpha=0.3, axis="y")
    axes.margins(y=0.15)
    if panel.warning is None:
        axes.set_title("like the calibration traffic", fontsize=10)
    else:
        axes.set_title(f"warning since audit {panel.warning.audits}", fontsize=10, color=_WARN)
    if legend:
        axes.legend(fontsize=8, loc="best")
