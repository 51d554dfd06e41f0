"""Every kind of probe on the tiny reasoner's traces, all the way to its calibrated threshold.

Run: ``python -m examples.tiny_reasoner.compare_probes [--alphas 0.05 0.02 0.01] [--fits 3]``

Needs the stores of ``make artifact`` in ``build/tiny_reasoner`` and a third, ``test``, collected in
the same way. Fits on ``collect``, calibrates on ``calibrate`` (trace-level LTT, loss "disagree"),
replays on ``test``. Prints a Markdown table: means over fits with different seeds, and the lowest
and highest mean tokens among them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from calibration.calibrate import calibrate
from calibration.evaluate import Outcome, auroc, never_stops, oracle_stops, replay, threshold_stops
from calibration.losses import bad_cues
from calibration.traces import TraceDataset
from probes.first_exit import BAD_WEIGHT
from stopper.choosing import CANDIDATES, methods
from stopper.fitting import Method, fit, method_of
from stopper.gathering import Gathered, gather

LOSS, LABEL, CUES = "disagree", "agrees", 1_000_000


def read(folder: Path) -> tuple[TraceDataset, Gathered]:
    dataset = TraceDataset(folder)
    layers = dataset.meta.layers
    return dataset, gather(
        dataset, layers, dataset.groups(), label=LABEL, seed=0, max_cues=CUES, what=folder.name
    )


def rows_of(dataset: TraceDataset, bad_weight: float) -> list[Method]:
    meta = dataset.meta
    found = methods(CANDIDATES, meta.layers, meta, 0.5, bad_weight)
    for shaping in ("raw", "rise"):
        found.append(
            method_of(
                "mlp",
                meta.layers,
                meta.hidden_size,
                shaping=shaping,
                objective="first-exit",
                bad_weight=bad_weight,
            )
        )
    return found


def cells(outcomes: list[Outcome]) -> str:
    tokens = [outcome.tokens for outcome in outcomes]
    mean = sum(tokens) / len(tokens)
    bad = sum(outcome.bad_stop_share for outcome in outcomes) / len(outcomes)
    return f"{mean:.1f} ({min(tokens):.1f} to {max(tokens):.1f}) | {bad:.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stores", type=Path, default=Path("build/tiny_reasoner"))
    parser.add_argument("--alphas", type=float, nargs="+", default=[0.05, 0.02, 0.01])
    parser.add_argument("--bad-weight", type=float, default=BAD_WEIGHT)
    parser.add_argument("--fits", type=int, default=3)
    options = parser.parse_args()
    dataset, train = read(options.stores / "collect")
    (_, known), (_, test) = (read(options.stores / name) for name in ("calibrate", "test"))
    bad = bad_cues(test.table, LOSS)
    every = rows_of(dataset, options.bad_weight)
    lines = [
        "| probe | AUROC |" + "".join(f" tokens at {a:g} | bad |" for a in options.alphas),
        "|---|---|" + "---|---|" * len(options.alphas),
    ]
    bar = tqdm(total=len(every) * options.fits, desc="comparing", unit="probe")
    for method in every:
        areas: list[float] = []
        outcomes: dict[float, list[Outcome]] = {alpha: [] for alpha in options.alphas}
        for seed in range(options.fits):
            probe = fit(train, method, seed).probe
            calibration, table = known.scored(probe), test.scored(probe)
            areas.append(auroc(table.scores, ~bad))
            for alpha in options.alphas:
                stops = threshold_stops(table, calibrate(calibration, LOSS, alpha).threshold)
                outcomes[alpha].append(replay(method.name, table, bad, stops))
            bar.update()
        figures = " | ".join(cells(outcomes[alpha]) for alpha in options.alphas)
        lines.append(f"| {method.name} | {sum(areas) / len(areas):.3f} | {figures} |")
    bar.close()
    full = replay("full trace", test.table, bad, never_stops(test.table))
    oracle = replay("oracle", test.table, bad, oracle_stops(test.table, bad))
    print("\n".join(lines))
    print(f"\nfull trace: {full.tokens:.1f} tokens; oracle without a bad stop: {oracle.tokens:.1f}")


if __name__ == "__main__":
    main()
