"""A probe of your own: fitted on recorded traces, calibrated, saved as an artifact to serve.

    python examples/own_probe.py [--fit discriminant|network] [--alpha 0.1] [--out FOLDER]

Two fits that stopper does not have: scikit-learn's shrunk linear discriminant, and a network in
torch. Any fit will do that ends in affine maps with ReLU between, and vLLM serves what comes of it:
`train` takes it as a function, keeps the prompts of fit, calibration and test apart, and measures
it. For a probe of another form bring its scores (`own_scores.py`). Needs torch and
`pip install 'stopper[calibrate]'`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from calibration.calibrate import calibrate
from calibration.evaluate import Outcome, replay, threshold_stops
from calibration.losses import bad_cues
from calibration.traces import TraceDataset
from probes.estimators import export
from probes.network import Probe
from probes.spec import ProbeSpec
from stopper.artifact import Artifact
from stopper.calibrating import CALIBRATED, FITTED, TEST, calibrated, choose_traces
from stopper.fitting import Method
from stopper.training import TrainingPlan, train

TRACES = Path(__file__).parent / "traces"  # of `stopper collect`, see examples/README.md

Hidden, Labels = npt.NDArray[np.float32], npt.NDArray[np.bool_]


def discriminant(hidden: Hidden, good: Labels, spec: ProbeSpec) -> Probe:
    """Fit any estimator of scikit-learn with `coef_` and `intercept_`, and fold its scaler in."""
    model = make_pipeline(
        StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    )
    return export(model.fit(hidden.astype(np.float64), good), spec)


def network(hidden: Hidden, good: Labels, spec: ProbeSpec) -> Probe:
    """Fit any torch module of linear layers with ReLU between."""
    torch.manual_seed(0)
    mean, scale = hidden.mean(0), hidden.std(0)
    into, width, out = spec.widths
    inner, outer = torch.nn.Linear(into, width), torch.nn.Linear(width, out)
    module = torch.nn.Sequential(inner, torch.nn.ReLU(), outer)
    x, y = torch.from_numpy((hidden - mean) / scale), torch.from_numpy(good).float()
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(module(x)[:, 0], y).backward()
        optimizer.step()
    (first, bias), (last, end) = [
        (layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in (inner, outer)
    ]
    first = first / scale  # the probe reads hidden states as they are
    return Probe(spec, [(first, bias - first @ mean), (last, end)])


FITS = {"discriminant": (discriminant, "linear", ()), "network": (network, "mlp", (16,))}


def main(arguments: list[str] | None = None) -> tuple[Artifact, Outcome]:
    """Train, calibrate and judge; return the artifact, and what it does on other prompts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fit", choices=FITS, default="discriminant")
    parser.add_argument("--alpha", type=float, default=0.1, help="tolerated share of bad stops")
    parser.add_argument("--out", type=Path, help="folder for the artifact")
    asked = parser.parse_args(arguments)
    fitter, kind, widths = FITS[asked.fit]

    dataset = TraceDataset(TRACES)
    layers, size = tuple(dataset.meta.layers), dataset.meta.hidden_size
    spec = ProbeSpec(kind=kind, layers=layers, hidden_size=size, hidden_dims=widths)
    shares = {"train": 0.4, "calibrate": 0.3, "test": 0.3}  # of the prompts
    plan = TrainingPlan(label="agrees", fractions=shares, seed=0, max_cues=100_000)
    trained, fitted, _ = train(dataset, Method(spec), plan, fitter)
    print(f"{asked.fit}: AUROC {fitted.metrics['auroc']:.2f} on prompts held out of the fit")

    chosen = choose_traces(trained, TRACES, (*FITTED, TEST))
    found = calibrate(chosen.table, "disagree", asked.alpha)
    artifact = calibrated(found, chosen.table, trained, chosen)
    print(found.promise)

    table = choose_traces(artifact, TRACES, (*FITTED, CALIBRATED)).table
    stops = threshold_stops(table, found.threshold)
    outcome = replay(asked.fit, table, bad_cues(table, "disagree"), stops, found.threshold)
    print(
        f"on {len(table)} other prompts: {outcome.tokens:.0f} thinking tokens instead of "
        f"{table.tokens.mean():.0f}, {outcome.bad_stops:g} stopped badly"
    )
    with TemporaryDirectory() as scratch:
        folder = asked.out or Path(scratch) / "artifact"
        artifact.save(folder)
        return Artifact.load(folder), outcome  # what `vllm serve` and ThinkingStopper load


if __name__ == "__main__":
    main()
