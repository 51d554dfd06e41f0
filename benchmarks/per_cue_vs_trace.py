"""The first table of docs/guarantee.md: per-cue rules against trace rules, by number of cues.

Run: ``python benchmarks/per_cue_vs_trace.py [--alpha 0.1] [--loss wrong] [--calibrations 60]``

For 1, 3, 10 and 30 cues per trace: so many calibration sets of 500 simulated traces are drawn, each
rule is calibrated on each, and all are replayed over the same 20,000 other traces. Printed are the
mean share of traces stopped badly and, at 10 cues, the mean share of thinking tokens saved; below
the table, what becomes of the trace rules when they are calibrated at 5 cues and served at 20.
``--json FILE`` writes the same. About half a minute on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from calibration.conformal import MapiePerCue, lynx_threshold
from calibration.evaluate import first_cues, replay, threshold_stops
from calibration.losses import LOSSES, bad_cues
from calibration.risk import threshold
from calibration.simulate import SimulatorSettings, simulate
from calibration.table import CueTable
from calibration.worst import worst_bad_scores

CUES = (1, 3, 10, 30)
SAVED_AT = 10
CALM, BUSY = 5, 20

Scores = NDArray[np.float32]
# (good cue scores, bad cue scores, x_i, cues per trace) to (test table) -> stops
Rule = Callable[[Scores, Scores, Scores, float], Callable[[CueTable], NDArray[np.int64]]]


def rules(alpha: float) -> dict[str, Rule]:
    def above(limit: float) -> Callable[[CueTable], NDArray[np.int64]]:
        return lambda test: threshold_stops(test, limit)

    def mapie(good: Scores, bad: Scores) -> Callable[[CueTable], NDArray[np.int64]]:
        return lambda test: first_cues(MapiePerCue(good, bad, alpha).passes(test.scores), test)

    return {
        "LYNX per cue": lambda good, bad, x, k: above(lynx_threshold(good, bad, alpha)),
        "MAPIE per cue": lambda good, bad, x, k: mapie(good, bad),
        "LYNX per cue, alpha/K": lambda good, bad, x, k: above(
            lynx_threshold(good, bad, alpha / k)
        ),
        "trace CRC": lambda good, bad, x, k: above(threshold(x, alpha, "crc")),
        "trace LTT, 90 %": lambda good, bad, x, k: above(threshold(x, alpha, "ltt", 0.9)),
    }


def shifted(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Calibrate at few cues; give each trace rule's risk there and at many."""
    dials = {"auroc": options.auroc}
    tests = {
        str(cues): simulate(SimulatorSettings(options.test, cues=cues, seed=10_000, **dials))
        for cues in (CALM, BUSY)
    }
    risk: dict[str, dict[str, float]] = {}
    for method in ("crc", "ltt"):
        limits = []
        for seed in range(options.calibrations):
            drawn = simulate(SimulatorSettings(options.traces, cues=CALM, seed=seed, **dials))
            limits.append(threshold(worst_bad_scores(drawn, options.loss), options.alpha, method))
        risk[method] = {
            cues: float(np.mean([
                replay("", test, bad_cues(test, options.loss), threshold_stops(test, limit))
                .bad_stop_share
                for limit in limits
            ]))
            for cues, test in tests.items()
        }  # fmt: skip
    return risk


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alpha", type=float, default=0.1)
    parser.add_argument("--loss", choices=list(LOSSES), default="wrong")
    parser.add_argument("--calibrations", type=int, default=60)
    parser.add_argument("--traces", type=int, default=500, help="per calibration set")
    parser.add_argument("--test", type=int, default=20_000)
    parser.add_argument("--auroc", type=float, default=0.94)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    risk: dict[str, dict[int, float]] = {name: {} for name in rules(options.alpha)}
    saved: dict[str, float] = {}
    for cues in CUES:
        dials = {"cues": cues, "auroc": options.auroc}
        test = simulate(SimulatorSettings(options.test, seed=10_000, **dials))
        bad_test = bad_cues(test, options.loss)
        full = float(test.tokens.mean())
        shares: dict[str, list[float]] = {name: [] for name in risk}
        spent: dict[str, list[float]] = {name: [] for name in risk}
        for seed in range(options.calibrations):
            drawn = simulate(SimulatorSettings(options.traces, seed=seed, **dials))
            bad = bad_cues(drawn, options.loss)
            worst = worst_bad_scores(drawn, options.loss)
            for name, rule in rules(options.alpha).items():
                stops = rule(drawn.scores[~bad], drawn.scores[bad], worst, cues)(test)
                outcome = replay(name, test, bad_test, stops)
                shares[name].append(outcome.bad_stop_share)
                spent[name].append(outcome.tokens)
        for name in risk:
            risk[name][cues] = float(np.mean(shares[name]))
            if cues == SAVED_AT:
                saved[name] = 1 - float(np.mean(spent[name])) / full

    table = Table(
        title=f"share stopped badly, alpha {options.alpha:g}, loss '{options.loss}', "
        f"{options.calibrations} calibrations of {options.traces} traces"
    )
    table.add_column("rule", no_wrap=True)
    for cues in CUES:
        table.add_column(f"{cues} cue{'s' * (cues > 1)}", justify="right")
    table.add_column(f"saved at {SAVED_AT}", justify="right")
    for name, by_cues in risk.items():
        table.add_row(name, *(f"{by_cues[cues]:.3f}" for cues in CUES), f"{saved[name]:.1%}")
    console = Console()
    console.print(table)
    moved = shifted(options)
    for method, by_cues in moved.items():
        console.print(
            f"{method} calibrated at {CALM} cues: {by_cues[str(CALM)]:.3f} there, "
            f"{by_cues[str(BUSY)]:.3f} when served at {BUSY} cues"
        )
    if options.json:
        report = {name: {"risk": risk[name], "saved": saved[name]} for name in risk}
        options.json.write_text(
            json.dumps(vars(options) | {"rules": report, "shift": moved}, default=str, indent=2)
        )


if __name__ == "__main__":
    main()
