"""Thresholds from a million cue events, as multiples of one numpy sort in the same run.

Run: ``python benchmarks/thresholds.py [--cues 1000000] [--per-trace 10] [--repeats 30]``

Prints JSON. ``core`` is labels to threshold on columns: which cues are bad, x_i of every trace, the
LTT threshold. ``sort`` is ``np.sort`` of the same float32 scores, the fastest sort numpy has. The
two alternate, and the medians are compared. ``table`` is the same through the public function,
which also asks whether groups repeat (the answer is kept with the table).
The exit code is 1 where core takes more than twice the sort.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from calibration.losses import bad_cues
from calibration.risk import threshold
from calibration.simulate import SimulatorSettings, simulate
from calibration.worst import worst_bad_scores, worst_bad_scores_flat

LIMIT = 2.0


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cues", type=int, default=1_000_000)
    parser.add_argument("--per-trace", type=float, default=10.0)
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    traces = max(1, round(options.cues / options.per_trace))
    table = simulate(SimulatorSettings(traces, cues=options.per_trace, seed=1))
    scores, offsets = table.scores, table.offsets

    def core() -> float:
        worst = worst_bad_scores_flat(scores, bad_cues(table, "wrong"), offsets)
        return threshold(worst, 0.1, "ltt", 0.9)

    work: dict[str, Callable[[], object]] = {
        "sort": lambda: np.sort(scores),
        "sort_float64": lambda: np.sort(scores.astype(np.float64)),
        "core": core,
        "table": lambda: threshold(worst_bad_scores(table, "wrong"), 0.1),
        "another_alpha": lambda: threshold(worst, 0.05),
    }
    worst = worst_bad_scores(table, "wrong")
    for job in work.values():
        job()
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(options.repeats):
        for name, job in work.items():
            times[name].append(seconds(job))
    medians = {name: statistics.median(found) for name, found in times.items()}
    ratio = medians["core"] / medians["sort"]
    report = {
        "traces": len(table),
        "cues": table.n_cues,
        "milliseconds": {name: round(1e3 * value, 3) for name, value in medians.items()},
        "core_over_sort": round(ratio, 3),
        "core_over_sort_float64": round(medians["core"] / medians["sort_float64"], 3),
        "limit": LIMIT,
    }
    print(json.dumps(report, indent=2))
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
