"""What docs/scaling.md reads from the benchmark of the store (speeds are not judged)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "store.py"


def test_the_store_benchmark_prints_the_bytes_of_traces(tmp_path: Path) -> None:
    file = tmp_path / "store.json"
    command = [sys.executable, str(BENCHMARK), "--traces", "20", "--rounds", "32"]
    command += ["--cues", "100", "200"]
    done = subprocess.run(
        [*command, "--json", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "one trace in Redis" in done.stdout
    report = json.loads(file.read_text())
    bytes_of = {row["cues"]: row["key_bytes"] for row in report["traces"]}
    assert sorted(bytes_of.values()) == list(bytes_of.values())
    # docs/scaling.md: some 27 bytes a cue.
    assert 20 < (bytes_of[200] - bytes_of[100]) / 100 < 40
    assert all(row["redis_us"] > 0 and row["client_us"] > 0 for row in report["speed"])
    assert report["fixed_bytes"].keys() == {"counters", "feed"}
