"""Draws the panels of a Grafana dashboard against a Prometheus, for a look without Grafana.

    python deploy/grafana/preview.py --prometheus http://127.0.0.1:9090 --out dashboard.png

It knows the kinds of panels and the settings that deploy/grafana/dashboards/stopper.json uses, and
lays them out as Grafana does. Colours, fonts and ticks are not Grafana's.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import re
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image

DASHBOARD = Path(__file__).with_name("dashboards") / "stopper.json"
COLUMNS = 24
INCHES = 0.62
"""Width of a column; a row of the grid is 0.6 of it high."""

STEPS = 240
COLOURS_KEPT = 96
"""A picture for a document: a third of the bytes."""

COLOURS = {
    "green": "#56a64b", "red": "#e02f44", "orange": "#ff780a", "blue": "#5794f2", "text": "#8e8e8e",
    "purple": "#a352cc", "semi-dark-blue": "#1f60c4", "dark-red": "#8f1222", "yellow": "#f2cc0c",
}  # fmt: skip
PALETTE = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#96d98d")

Series = tuple[str, np.ndarray, np.ndarray]


class Source:
    """A Prometheus and a range of time.

    Parameters
    ----------
    url
        Of the server.
    minutes
        How far back.
    step
        Seconds between two points; None: the range in `STEPS`.

    """

    def __init__(self, url: str, minutes: float, step: float | None = None) -> None:
        self.url = url.rstrip("/")
        self.end = time.time()
        self.begin = self.end - minutes * 60
        self.step = max(1.0, minutes * 60 / STEPS) if step is None else step
        self.variables = {
            "$__rate_interval": f"{max(4 * self.step, 20):.0f}s",
            "$__range": f"{minutes * 60:.0f}s",
        }

    def expression(self, text: str) -> str:
        """Put Grafana's variables in; those of the dashboard stand for everything."""
        for name, value in self.variables.items():
            text = text.replace(name, value)
        return re.sub(r"\$\w+", ".*", text)

    def ask(self, target: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what Prometheus answers to a panel's target."""
        asked: dict[str, Any] = {"query": self.expression(target["expr"])}
        if target.get("instant"):
            path = "query"
            asked["time"] = self.end
        else:
            path = "query_range"
            asked |= {"start": self.begin, "end": self.end, "step": self.step}
        with urlopen(f"{self.url}/api/v1/{path}?{urlencode(asked)}", timeout=60) as answer:  # noqa: S310
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found

    def series(self, target: dict[str, Any]) -> list[Series]:
        """Return the lines of a target: name, times (datetime64) and values."""
        found = []
        for result in self.ask(target):
            pairs = result.get("values") or [result["value"]]
            times = np.array([float(pair[0]) for pair in pairs])
            values = np.array([float(pair[1]) for pair in pairs])
            at = (times * 1000).astype("datetime64[ms]")
            gaps = np.flatnonzero(np.diff(times) > 1.5 * self.step) + 1
            found.append(
                (named(target, result["metric"]), np.insert(at, gaps, at[gaps]),
                 np.insert(values, gaps, np.nan))
            )  # fmt: skip
        return found


def named(target: dict[str, Any], labels: dict[str, str]) -> str:
    """Return a series' name by the target's legend."""
    if target["legendFormat"] == "__auto":
        return ", ".join(labels.values())
    return re.sub(r"\{\{(\w+)\}\}", lambda m: labels.get(m[1], ""), target["legendFormat"])


def written(value: float, unit: str | None, decimals: int | None = None) -> str:
    """Write a value as its unit asks."""
    if math.isnan(value):
        return "no data"
    if unit == "percentunit":
        return f"{value * 100:.{1 if decimals is None else decimals}f} %"
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 else f"{value * 1000:.3g} ms"
    if unit == "dateTimeAsIso":
        return datetime.fromtimestamp(value / 1000, UTC).strftime("%Y-%m-%d")
    for size, letter in ((1e6, " Mil"), (1e3, " K")):
        if abs(value) >= 10 * size:
            return f"{value / size:.1f}{letter}"
    return f"{value:.{decimals}f}" if decimals is not None else f"{value:.4g}"


def properties(panel: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what a panel's overrides say of one series or column."""
    found = {}
    for override in panel["fieldConfig"]["overrides"]:
        by, what = override["matcher"]["id"], override["matcher"]["options"]
        if (by == "byName" and what == name) or (
            by == "byRegexp" and re.search(what.strip("/"), name)
        ):
            found |= {p["id"]: p["value"] for p in override["properties"]}
    return found


def mapped(field: dict[str, Any], value: float) -> tuple[str, str | None]:
    """Return a value's text and colour by the field's mappings and thresholds."""
    colour = None
    for step in field.get("thresholds", {}).get("steps", []):
        if step["value"] is None or value >= step["value"]:
            colour = step["color"]
    for mapping in field.get("mappings", []):
        hit = mapping["options"].get(f"{value:g}")
        if hit is not None:
            return hit["text"], hit["color"]
    return written(value, field.get("unit"), field.get("decimals")), colour


def draw_stat(axes: Axes, panel: dict[str, Any], source: Source) -> None:
    """Draw one number."""
    axes.axis("off")
    found = [line for target in panel["targets"] for line in source.series(target)]
    value = float(found[0][2][-1]) if found else math.nan
    text, colour = mapped(panel["fieldConfig"]["defaults"], value)
    paint = COLOURS[colour or "text"] if found else COLOURS["text"]
    filled = panel["options"]["colorMode"] == "background"
    if filled:
        axes.add_patch(Rectangle((0.02, 0.05), 0.96, 0.9, color=paint, transform=axes.transAxes))
    axes.text(0.5, 0.48, text, transform=axes.transAxes, ha="center", va="center", fontsize=17,
              color="white" if filled else paint, weight="bold")  # fmt: skip


def draw_lines(axes: Axes, panel: dict[str, Any], source: Source) -> None:
    """Draw lines over time, stacked where the panel says so."""
    field = panel["fieldConfig"]["defaults"]
    stacked = field["custom"]["stacking"]["mode"] == "normal"
    found = [line for target in panel["targets"] for line in source.series(target)]
    total: dict[Any, float] = {}
    for number, (name, times, values) in enumerate(found):
        own = properties(panel, name)
        colour = own.get("color", {}).get("fixedColor")
        paint = COLOURS[colour] if colour else PALETTE[number % len(PALETTE)]
        style = "--" if own.get("custom.lineStyle", {}).get("fill") == "dash" else "-"
        width = own.get("custom.lineWidth", field["custom"]["lineWidth"]) * 0.7
        below = np.array([total.get(at, 0.0) for at in times]) if stacked else np.zeros(len(values))
        axes.plot(times, below + values, style, color=paint, linewidth=width, label=name)
        if field["custom"]["fillOpacity"]:
            axes.fill_between(times, below, below + values, color=paint, linewidth=0,
                              alpha=field["custom"]["fillOpacity"] / 100)  # fmt: skip
        if stacked:
            total |= dict(zip(times, below + np.nan_to_num(values), strict=True))
    if field["custom"].get("thresholdsStyle", {}).get("mode") == "dashed":
        for step in field["thresholds"]["steps"][1:]:
            axes.axhline(step["value"], color=COLOURS[step["color"]], linestyle="--", linewidth=1)
    if "min" in field:
        axes.set_ylim(bottom=field["min"])
    axes.yaxis.set_major_formatter(
        lambda value, _: written(value, field.get("unit"), field.get("decimals"))
    )
    time_axis(axes, source)
    if not found:
        axes.text(0.5, 0.5, "No data", transform=axes.transAxes, ha="center", color="#8e8e8e")
    elif len(found) <= 9:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, fontsize=6,
                    frameon=False, handlelength=1.2, columnspacing=1.0)  # fmt: skip


def time_axis(axes: Axes, source: Source) -> None:
    """Show the same range of time in all panels."""
    axes.set_xlim(*(np.datetime64(int(at * 1000), "ms") for at in (source.begin, source.end)))
    ticks = np.linspace(source.begin, source.end, 6)[1:-1].round()
    said = [datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S") for at in ticks]
    axes.set_xticks((ticks * 1000).astype("datetime64[ms]"), said)
    axes.grid(True, color="#e6e6e6", linewidth=0.5)


def draw_heatmap(axes: Axes, panel: dict[str, Any], source: Source) -> None:
    """Draw the counts of a histogram's buckets over time, of Prometheus' cumulative ones."""
    found = [line for line in source.series(panel["targets"][0]) if line[0]]
    found.sort(key=lambda line: float(line[0]))
    cumulative = np.array([line[2] for line in found])
    counts = np.diff(cumulative, axis=0, prepend=0)
    exponent = panel["options"]["color"]["exponent"]
    axes.pcolormesh(found[0][1], np.arange(len(found)), np.clip(counts, 0, None) ** exponent,
                    cmap=panel["options"]["color"]["scheme"], shading="nearest")  # fmt: skip
    axes.set_yticks(np.arange(len(found)), [line[0] for line in found])
    time_axis(axes, source)
    axes.grid(False)


def draw_timeline(axes: Axes, panel: dict[str, Any], source: Source) -> None:
    """Draw a bar for each series, coloured by its state."""
    field = panel["fieldConfig"]["defaults"]
    found = [line for target in panel["targets"] for line in source.series(target)]
    last = np.timedelta64(int(source.step * 1000), "ms")
    for place, (_, times, values) in enumerate(found):
        changes = np.flatnonzero(np.diff(np.nan_to_num(values, nan=-1.0))) + 1
        for at, until in pairwise([0, *changes.tolist(), len(values)]):
            if not np.isnan(values[at]):
                end = times[until] if until < len(values) else times[-1] + last
                paint = COLOURS[mapped(field, float(values[at]))[1] or "text"]
                axes.barh(place, end - times[at], left=times[at], height=0.7, color=paint)
    axes.set_yticks(range(len(found)), [line[0] for line in found])
    axes.set_ylim(-0.6, max(len(found), 1) - 0.4)
    time_axis(axes, source)


def merged(panel: dict[str, Any], source: Source) -> list[dict[str, str | float]]:
    """Return a table's rows: instant results that agree in their common labels are one row."""
    rows: list[dict[str, str | float]] = []
    for target in panel["targets"]:
        for result in source.ask(target):
            labels, value = result["metric"], float(result["value"][1])
            fits = [row for row in rows if all(row.get(k, v) == v for k, v in labels.items())]
            if not fits:
                fits = [{}]
                rows += fits
            for row in fits:
                row.update(labels)
                row[f"Value #{target['refId']}"] = value
    return rows


def draw_table(axes: Axes, panel: dict[str, Any], source: Source) -> None:
    """Draw a table after its transformations."""
    axes.axis("off")
    rows = merged(panel, source)
    organize = next(t["options"] for t in panel["transformations"] if t["id"] == "organize")
    names = [
        n for n in {name for row in rows for name in row} if n not in organize["excludeByName"]
    ]
    names.sort(key=lambda name: organize["indexByName"].get(name, 99))
    heads = [organize["renameByName"].get(name, name) for name in names]
    cells = []
    for row in rows:
        cells.append([])
        for name, head in zip(names, heads, strict=True):
            value = row.get(name, math.nan)
            field = panel["fieldConfig"]["defaults"] | properties(panel, head)
            cells[-1].append(value if isinstance(value, str) else mapped(field, value)[0])
    if cells:
        table = axes.table(cells, colLabels=heads, loc="upper center", cellLoc="left")
        table.auto_set_font_size(False)
        table.set_fontsize(8)
        table.scale(1, 1.3)


DRAWN = {
    "stat": draw_stat,
    "timeseries": draw_lines,
    "heatmap": draw_heatmap,
    "state-timeline": draw_timeline,
    "table": draw_table,
}


def draw(dashboard: dict[str, Any], source: Source, out: Path, dpi: int) -> None:
    """Draw all panels where the grid has them."""
    panels = dashboard["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = plt.figure(figsize=(COLUMNS * INCHES, height * INCHES * 0.6), facecolor="white")
    unit_x, unit_y = 1 / COLUMNS, 1 / height
    for panel in panels:
        at = panel["gridPos"]
        left, top = at["x"] * unit_x, 1 - at["y"] * unit_y
        if panel["type"] == "row":
            figure.text(
                left + 0.008, top - 0.7 * unit_y, panel["title"], fontsize=11, weight="bold"
            )
            continue
        # Room for axis and legend where there is one.
        plain = panel["type"] in ("stat", "table")
        edge, foot = (0.004, 0.2) if plain else (0.042, 2.1)
        if panel["type"] == "state-timeline":
            edge, foot = 0.085, 1.0
        axes = figure.add_axes(
            (left + edge, top - (at["h"] - foot) * unit_y, at["w"] * unit_x - edge - 0.008,
             (at["h"] - foot - 0.9) * unit_y)
        )  # fmt: skip
        axes.tick_params(labelsize=6)
        axes.spines[:].set_visible(False)
        DRAWN[panel["type"]](axes, panel, source)
        figure.text(left + 0.006, top - 0.62 * unit_y, panel["title"], fontsize=8)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=dpi)
    plt.close(figure)
    Image.open(drawn).convert("RGB").quantize(COLOURS_KEPT).save(out, optimize=True)


def main() -> None:
    """Read the options and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prometheus", required=True, help="its URL")
    parser.add_argument("--dashboard", type=Path, default=DASHBOARD)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0, help="how far back")
    parser.add_argument("--dpi", type=int, default=80)
    asked = parser.parse_args()
    draw(
        json.loads(asked.dashboard.read_text()),
        Source(asked.prometheus, asked.minutes),
        asked.out,
        asked.dpi,
    )


if __name__ == "__main__":
    main()
