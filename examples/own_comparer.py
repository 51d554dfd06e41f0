"""A comparer of your own: what "the same answer" means, and what it does to labels and threshold.

    python examples/own_comparer.py [--alpha 0.1]

The tiny reasoner answers with a digit. Suppose that only even or odd matters to you: then more
early stops are good ones, and the same promise lets more be stopped. The traces are not generated
again, only labelled again. `register` makes a comparer known in one process; for the commands
(`stopper relabel --comparer parity`) give it an entry point, see docs/answers.md. Needs
`pip install 'stopper[calibrate]'`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from calibration.answers import extract_answer
from calibration.calibrate import calibrate
from calibration.comparers import Comparer, register
from calibration.evaluate import Outcome, replay, threshold_stops
from calibration.losses import bad_cues
from calibration.splits import assign
from calibration.table import CueTable
from calibration.traces import TraceDataset
from stopper.relabelling import Tally, relabel

TRACES = Path(__file__).parent / "traces"  # of `stopper collect`, see examples/README.md


def same_parity(first: str, second: str) -> bool:
    """Tell whether both are even or both are odd; whatever is no number equals only itself."""
    if first.isdecimal() and second.isdecimal():
        return int(first) % 2 == int(second) % 2
    return first == second


@dataclass
class Labelled:
    """What a comparer makes of the traces."""

    agreeing: int
    threshold: float
    outcome: Outcome


def use(store: Path, alpha: float) -> Labelled:
    """Calibrate on half of a store's prompts and try the threshold on the others.

    The score is the mean log-probability of the answer forced at a cue; a probe would do as well.
    """
    traces = [
        record.scored([cue.forced_logprob for cue in record.cues]) for record in TraceDataset(store)
    ]
    halves = {"calibrate": 0.5, "test": 0.5}
    ours, others = (
        CueTable.from_traces(one for one in traces if assign(one.group, halves, seed=1) == name)
        for name in halves
    )
    found = calibrate(ours, "disagree", alpha)
    bad, stops = bad_cues(others, "disagree"), threshold_stops(others, found.threshold)
    agreeing = sum(bool(cue.agrees) for trace in traces for cue in trace.cues)
    outcome = replay(store.name, others, bad, stops, found.threshold)
    return Labelled(agreeing, found.threshold, outcome)


def main(arguments: list[str] | None = None) -> tuple[Tally, Labelled, Labelled]:
    """Label anew; return what changed, and what the labels before and after make possible."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--alpha", type=float, default=0.1, help="tolerated share of bad stops")
    asked = parser.parse_args(arguments)
    # A plain function would do; this one says where the answer is found as well.
    register("parity", Comparer("parity", "both even or both odd", same_parity, extract_answer))
    with TemporaryDirectory() as scratch:
        again = Path(scratch) / "parity"
        tally = relabel(TRACES, "parity", again, TRACES.parent / "tiny_reasoner" / "model")
        before, after = use(TRACES, asked.alpha), use(again, asked.alpha)
    print(f"{tally.changed['agrees']} of {tally.cues} labels changed")
    for name, found in (("auto", before), ("parity", after)):
        print(
            f"{name}: {found.agreeing} cues agree, threshold {found.threshold:.2g}, "
            f"{found.outcome.tokens:.0f} thinking tokens, {found.outcome.bad_stops:g} stopped badly"
        )
    return tally, before, after


if __name__ == "__main__":
    main()
