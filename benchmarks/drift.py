"""How soon the drift monitor notices a shift from 5 to 20 cues: the tables of docs/monitoring.md.

Run: ``python benchmarks/drift.py [--runs 100] [--alpha 0.1] [--loss disagree] [--json FILE]``

Each run draws its own 500 calibration traces at 5 cues, calibrates them (LTT, 90 %, or
``--calibration crc``), and audits other simulated traffic. Printed are, by method and by where the
shift lies, the share of runs that alarm within 1,500 audits after it and the audits they took; the
first profile warning likewise; false alarms and false warnings over 3,000 audits without a shift;
and what an audit costs, beside MAPIE's own RiskMonitoring, which scans its history at every update.
A few minutes on one core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from mapie.exchangeability_testing.risk_monitoring import RiskMonitoring
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from calibration.evaluate import threshold_stops
from calibration.losses import bad_cues
from calibration.monitor import METHODS, Audit, Monitor, Settings, Verdict, audits_of, write_state
from calibration.profile import profile_of
from calibration.risk import threshold
from calibration.simulate import SimulatorSettings, simulate
from calibration.table import CueTable
from calibration.worst import worst_bad_scores

ARTIFACT = "0" * 16
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
CALM, BUSY, N, WITHIN = 5, 20, 500, 1500
CHANGES = (0, 600, 3000)


class Traffic:
    """Audits of a pool of traces under one threshold, drawn without repetition."""

    def __init__(self, pool: CueTable, loss: str) -> None:
        self.pool, self.bad = pool, bad_cues(pool, loss)
        self.loss = loss

    def risk(self, limit: float) -> float:
        stops = threshold_stops(self.pool, limit)
        return float(self.bad[stops[stops >= 0]].sum() / len(self.pool))

    def audits(
        self, rng: np.random.Generator, count: int, limit: float, alpha: float, name: str
    ) -> list[Audit]:
        rows = rng.choice(len(self.pool), size=count, replace=False)
        table = self.pool.take(rows)
        made = audits_of(
            table,
            bad_cues(table, self.loss),
            threshold_stops(table, limit),
            artifact=ARTIFACT,
            alpha=alpha,
            loss_name=self.loss,
            begin=BEGIN,
            request_ids=[f"{name}-{place}" for place in range(count)],
        )
        return list(made)


def quantiles(found: list[int]) -> dict[str, float | None]:
    if not found:
        return {"median": None, "p95": None}
    return {"median": float(np.median(found)), "p95": float(np.quantile(found, 0.95))}


def noticed(times: list[int | None], change: int) -> dict[str, Any]:
    """Summarise when each run noticed; times up to the change are false."""
    after = [at - change for at in times if at is not None and at > change]
    timely = [late for late in after if late <= WITHIN]
    false = sum(at is not None and at <= change for at in times)
    return {
        "false": false,
        "share_within": len(timely) / max(1, len(times) - false),
        **quantiles(after),
    }


def first_warning(verdict: Verdict) -> int | None:
    return min((warning.audits for warning in verdict.warnings), default=None)


def shifts(options: argparse.Namespace) -> dict[str, Any]:
    pool = simulate(SimulatorSettings(options.runs * N, cues=CALM, seed=1))
    calm = Traffic(simulate(SimulatorSettings(20_000, cues=CALM, seed=2)), options.loss)
    busy = Traffic(simulate(SimulatorSettings(20_000, cues=BUSY, seed=3)), options.loss)
    alarms: dict[tuple[str, int], list[int | None]] = {}
    warnings: dict[int, list[int | None]] = {}
    calm_risks, busy_risks = [], []
    for run in tqdm(range(options.runs), desc="runs", leave=False):
        rng = np.random.default_rng(run)
        drawn = pool.take(np.arange(run * N, (run + 1) * N))
        worst = worst_bad_scores(drawn, options.loss)
        limit = threshold(worst, options.alpha, options.calibration, 0.9)
        calm_risks.append(calm.risk(limit))
        busy_risks.append(busy.risk(limit))
        good = calm.audits(rng, 3000, limit, options.alpha, "calm")
        shifted = busy.audits(rng, 3000, limit, options.alpha, "busy")
        for change, method in itertools.product((*CHANGES, None), METHODS):
            settings = Settings(ARTIFACT, options.loss, method)
            profile = profile_of(drawn) if method == "betting" else None
            stream = good if change is None else [*good[:change], *shifted]
            verdict = Monitor(settings, profile).update(stream)
            key = -1 if change is None else change
            alarms.setdefault((method, key), []).append(verdict.since)
            if method == "betting":
                warnings.setdefault(key, []).append(first_warning(verdict))
    rows = [
        {
            "what": f"alarm, {method}",
            "shift_after": change,
            **noticed(alarms[method, change], change),
        }
        for method, change in itertools.product(METHODS, CHANGES)
    ]
    rows += [
        {"what": "first warning", "shift_after": change, **noticed(warnings[change], change)}
        for change in CHANGES
    ]
    false = {f"alarm, {method}": count(alarms[method, -1]) for method in METHODS}
    false["first warning"] = count(warnings[-1])
    return {
        "risk": {
            f"{CALM} cues": [float(np.min(calm_risks)), float(np.max(calm_risks))],
            f"{BUSY} cues": [float(np.min(busy_risks)), float(np.max(busy_risks))],
        },
        "noticed": rows,
        "false_in_3000_in_control": false,
    }


def count(times: list[int | None]) -> int:
    return sum(at is not None for at in times)


def costs(options: argparse.Namespace, state: Path) -> dict[str, Any]:
    """Time one audit more after so many, in milliseconds, and the state's size in bytes."""
    calm = Traffic(simulate(SimulatorSettings(20_000, cues=CALM, seed=2)), options.loss)
    rng, limit = np.random.default_rng(0), 1.0
    audits = calm.audits(rng, 10_000, limit, options.alpha, "cost")
    losses = np.array([audit.loss for audit in audits])
    found: dict[str, Any] = {}
    for sofar in (100, 800, 3000, 9000):
        whole = RiskMonitoring("fpr", test_level=0.01, threshold=options.alpha, warn=False)
        whole.update(np.zeros(sofar, dtype=int), losses[:sofar])
        begun = time.perf_counter()
        whole.update(np.zeros(1, dtype=int), losses[sofar : sofar + 1])
        row = {"RiskMonitoring": 1e3 * (time.perf_counter() - begun)}
        for method in METHODS:
            monitor = Monitor(Settings(ARTIFACT, options.loss, method), profile_of(calm.pool))
            monitor.update(audits[:sofar])
            begun = time.perf_counter()
            monitor.update(audits[sofar : sofar + 100])
            row[method] = 1e3 * (time.perf_counter() - begun) / 100
        write_state(state, monitor.state())
        row["state_bytes"] = state.stat().st_size
        found[str(sofar)] = {name: round(value, 4) for name, value in row.items()}
    state.unlink()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--alpha", type=float, default=0.1)
    parser.add_argument("--loss", default="disagree")
    parser.add_argument("--calibration", choices=("ltt", "crc"), default="ltt")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = {
        "runs": options.runs,
        "alpha": options.alpha,
        "loss": options.loss,
        "calibration": options.calibration,
        **shifts(options),
        "cost": costs(options, Path("drift-benchmark-state.json")),
    }
    console = Console()
    for cues, (low, high) in report["risk"].items():
        console.print(f"true risk at {cues}: {low:.3f} to {high:.3f}", highlight=False)
    table = Table(title=f"audits after the shift, {options.runs} runs")
    for title in ("", "shift after", f"within {WITHIN}", "median", "95 %", "before the shift"):
        table.add_column(title, justify="left" if not title else "right")
    for row in report["noticed"]:
        figures = ["-" if row[name] is None else f"{row[name]:.0f}" for name in ("median", "p95")]
        share = f"{row['share_within']:.1%}"
        table.add_row(row["what"], str(row["shift_after"]), share, *figures, str(row["false"]))
    console.print(table)
    for what, number in report["false_in_3000_in_control"].items():
        console.print(f"3,000 audits in control, {what}: {number} of {options.runs} runs")
    table = Table(title="one audit, milliseconds")
    names = list(next(iter(report["cost"].values())))
    for title in ("after", *names):
        table.add_column(title, justify="right")
    for sofar, row in report["cost"].items():
        table.add_row(sofar, *(f"{row[name]:g}" for name in names))
    console.print(table)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
