"""The benchmarks run and print what docs/guarantee.md reads from them (speeds are not judged)."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


def run(name: str, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / name), *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_thresholds_prints_a_ratio() -> None:
    done = run("thresholds.py", "--cues", "20000", "--repeats", "3")
    report = json.loads(done.stdout)
    assert report["limit"] == 2.0 and report["core_over_sort"] > 0
    assert done.returncode == (report["core_over_sort"] > report["limit"])


def test_per_cue_vs_trace_prints_the_table(tmp_path: Path) -> None:
    out = tmp_path / "t.json"
    argv = ["--calibrations", "2", "--traces", "100", "--test", "300", "--json", str(out)]
    done = run("per_cue_vs_trace.py", *argv)
    assert done.returncode == 0, done.stderr
    assert "LYNX per cue" in done.stdout and "when served at 20 cues" in done.stdout
    report = json.loads(out.read_text())
    assert report["rules"]["trace LTT, 90 %"]["risk"].keys() == {"1", "3", "10", "30"}


def test_drift_prints_its_tables(tmp_path: Path) -> None:
    out = tmp_path / "d.json"
    done = run("drift.py", "--runs", "1", "--json", str(out))
    assert done.returncode == 0, done.stderr
    assert "alarm, betting" in done.stdout and "one audit, milliseconds" in done.stdout
    report = json.loads(out.read_text())
    assert len(report["noticed"]) == 9 and report["cost"].keys() == {"100", "800", "3000", "9000"}


def test_margins_prints_what_the_check_adds_to_a_step() -> None:
    done = run("margins.py", "--rounds", "1", "--tiny")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report.keys() == {"tiny, 1 row", "tiny, 16 rows"}
    assert all(row["check_ms"] > 0 and row["percent"] > 0 for row in report.values())
