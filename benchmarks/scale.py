"""Calibrates and evaluates on ten million cue events, and says what that took of time and memory.

Run: ``python benchmarks/scale.py [--traces 1000000] [--cues 10] [--limit-mib 1536] [--json FILE]``

Traces are simulated into a Parquet file. Each step then runs in a process of its own, which reports
its seconds and how far its resident memory rose above what it held once its libraries were loaded:

- ``simulate``: draw and write, batch by batch.
- ``stream``: read in batches and calibrate (``calibration.streaming``); one batch is in memory.
- ``calibrate``: read into columns and calibrate, as ``stopper calibrate --scores`` does.
- ``evaluate``: calibrate on batches, then read into columns and replay every rule, as
  ``stopper evaluate --scores`` does with an artifact of as many traces.

Prints JSON. The exit code is 1 where a step's memory rose by more than the limit, or where
``stream`` and ``calibrate`` do not agree bit for bit. Needs Linux (``/proc``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from calibration.calibrate import Calibration, calibrate
from calibration.report import Evaluator, Rule
from calibration.scores import load_scores, read_tables, write_tables
from calibration.simulate import SimulatorSettings, simulate_tables
from calibration.streaming import calibrate_batches

ALPHA, LOSS = 0.05, "disagree"
STEPS = ("simulate", "stream", "calibrate", "evaluate")


def memory_mib(field: str) -> float:
    """Read "VmRSS" (now) or "VmHWM" (the peak) of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def summary(found: Calibration) -> dict[str, Any]:
    arrays = (found.worst_scores, found.good_scores, found.bad_scores)
    return {
        "threshold": found.threshold,
        "units": found.n_units,
        "cues": found.n_cues,
        "sha256": [hashlib.sha256(array).hexdigest()[:16] for array in arrays],
    }


def work(step: str, file: Path, traces: int, cues: float) -> dict[str, Any]:
    if step == "simulate":
        written = write_tables(file, simulate_tables(SimulatorSettings(traces, cues=cues, seed=1)))
        return {"traces": written, "file_mib": round(file.stat().st_size / 2**20, 1)}
    if step == "stream":
        return summary(calibrate_batches(read_tables(file), LOSS, ALPHA))
    if step == "calibrate":
        return summary(calibrate(load_scores(file), LOSS, ALPHA))
    # Of all traces, as an artifact of so many keeps it; the per-cue baselines use every cue of it.
    found = calibrate_batches(read_tables(file), LOSS, ALPHA)
    rule = Rule("ltt", LOSS, 0.9, found.worst_scores, found.good_scores, found.bad_scores)
    report = Evaluator(load_scores(file), rule).at(ALPHA)
    return {"bad_stop_share": report.stopped.bad_stop_share, "cues": report.n_cues}


def run_step(step: str, file: Path, traces: int, cues: float) -> dict[str, Any]:
    import pyarrow.parquet  # noqa: F401

    if step == "evaluate":
        import mapie.classification  # noqa: F401

    before, begun = memory_mib("VmRSS"), time.perf_counter()
    found = work(step, file, traces, cues)
    return {
        "seconds": round(time.perf_counter() - begun, 1),
        "memory_mib": round(memory_mib("VmHWM") - before, 1),
        **found,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=int, default=1_000_000)
    parser.add_argument("--cues", type=float, default=10.0)
    parser.add_argument("--limit-mib", type=float, default=1536.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(run_step(options.step, options.file, options.traces, options.cues)))
        return 0
    report: dict[str, Any] = {"limit_mib": options.limit_mib}
    with tempfile.TemporaryDirectory() as folder:
        for step in STEPS:
            command = [sys.executable, __file__, "--step", step, "--traces", str(options.traces)]
            command += ["--cues", str(options.cues), "--file", str(Path(folder) / "traces.parquet")]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            report[step] = json.loads(done.stdout)
    same = ("threshold", "units", "cues", "sha256")
    report["agree"] = all(report["stream"][key] == report["calibrate"][key] for key in same)
    text = json.dumps(report, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    within = all(report[step]["memory_mib"] <= options.limit_mib for step in STEPS)
    return 0 if report["agree"] and within else 1


if __name__ == "__main__":
    sys.exit(main())
