"""Scores from anywhere: calibrated with the promise, then decided on by you or by the sidecar.

    python examples/own_scores.py [--alpha 0.1] [--form jsonl|parquet] [--out FOLDER]

The score here is the mean log-probability of a short trial answer at each cue, as `stopper collect`
recorded it; an entropy, a vote or a number from another engine will do as well, if more of it means
safer to stop. The same in the shell: `stopper calibrate --scores calibrate.jsonl --out rule`, then
`stopper serve --artifact mine=rule`. Needs `pip install 'stopper[calibrate,serve]'`.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from calibration.calibrate import calibrate
from calibration.scores import load_scores, write_scores
from calibration.splits import assign
from calibration.traces import TraceDataset
from probes.events import Trace
from stopper.artifact import Artifact
from stopper.calibrating import calibrated
from stopper.client import AsyncStopperClient, DecisionEvent
from stopper.policy import StopPolicy
from stopper.service.app import create_app
from stopper.service.runtime import Runtime
from stopper.service.settings import ArtifactSource, ServeSettings

TRACES = Path(__file__).parent / "traces"  # of `stopper collect`, see examples/README.md

Stops = dict[str, int | None]
"""Thinking tokens at the stop by trace; None where it thinks to its end."""


def scored() -> Iterable[Trace]:
    """Yield traces with labels and with scores of your own."""
    for record in TraceDataset(TRACES):
        yield record.scored([cue.forced_logprob for cue in record.cues])


def write(folder: Path, form: str) -> dict[str, Path]:
    """Write the scores of half of the prompts to calibrate on, and of the others to try it on."""
    parts: dict[str, list[Trace]] = {"calibrate": [], "test": []}
    for trace in scored():
        parts[assign(trace.group, {"calibrate": 0.5, "test": 0.5}, seed=1)].append(trace)
    files = {name: folder / f"{name}.{form}" for name in parts}
    for name, path in files.items():
        write_scores(path, parts[name])
    return files


def decide_here(artifact: Artifact, alpha: float, traces: Iterable[Trace]) -> Stops:
    """Decide in your own engine, cue by cue."""
    policy, stops = StopPolicy.from_artifact(artifact), Stops()
    for trace in traces:
        stops[trace.trace_id] = None
        for cue in trace.cues:
            if policy.decide(cue.score, alpha).stop:
                stops[trace.trace_id] = cue.position
                break
    return stops


async def ask_sidecar(folder: Path, alpha: float, traces: Iterable[Trace]) -> Stops:
    """Ask `POST /v1/stop-decisions`, here of a sidecar in this process."""
    settings = ServeSettings.read(artifacts=[ArtifactSource(folder=folder, model="mine")])
    runtime, stops = Runtime.from_settings(settings), Stops()
    transport = httpx.ASGITransport(create_app(runtime=runtime))
    async with (
        runtime.running(),
        AsyncStopperClient("http://sidecar", transport=transport) as client,
    ):
        for trace in traces:
            stops[trace.trace_id] = None
            for cue in trace.cues:
                event = DecisionEvent(
                    trace.trace_id, "mine", cue.position, score=cue.score, alpha=alpha, audit=False
                )
                if (await client.decide(event)).stop:
                    stops[trace.trace_id] = cue.position
                    break
    return stops


def main(arguments: list[str] | None = None) -> tuple[Stops, Stops, list[Trace]]:
    """Calibrate, decide both ways, and return the stops of either with the traces."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--alpha", type=float, default=0.1, help="tolerated share of bad stops")
    parser.add_argument("--form", choices=("jsonl", "parquet"), default="jsonl")
    parser.add_argument("--out", type=Path, help="folder for the scores and the artifact")
    asked = parser.parse_args(arguments)
    with TemporaryDirectory() as scratch:
        folder = asked.out or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        files = write(folder, asked.form)
        table = load_scores(files["calibrate"])
        found = calibrate(table, "disagree", asked.alpha)
        calibrated(found, table).save(folder / "rule")
        print(found.promise)
        traces = list(load_scores(files["test"]).traces())
        here = decide_here(Artifact.load(folder / "rule"), asked.alpha, traces)
        there = asyncio.run(ask_sidecar(folder / "rule", asked.alpha, traces))
    full, spent = sum(t.tokens for t in traces), sum(here[t.trace_id] or t.tokens for t in traces)
    print(f"on {len(traces)} other prompts: {spent} thinking tokens instead of {full}")
    print(f"decisions of the sidecar: {'the same' if here == there else 'OTHERS'}")
    return here, there, traces


if __name__ == "__main__":
    main()
