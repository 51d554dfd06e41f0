"""A probe trained on what a trace costs: the loss of its first exit, made differentiable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from probes.errors import InputError
from probes.fit import FitResult, fit_probe, hold_out
from probes.metrics import quality
from probes.network import Probe
from probes.shaping import shape, weight_of
from probes.spec import ProbeSpec
from probes.training_traces import BAD, GOOD, Standardiser, TrainingTraces

BAD_WEIGHT = 10.0
"""Default price of a bad stop, in full traces' worth of tokens."""

MAX_EPOCHS = 200
PATIENCE = 8
BATCH_TRACES = 32
LEARNING_RATE = 1e-3
CLIP_NORM = 1.0
SHARPNESS = 4.0
"""Temperatures in a standard deviation of the shaped scores: how steep training stops."""


def expected_cost(logits: Any, bad: Any, costs: Any, present: Any, bad_weight: float) -> Any:
    """Return what traces cost that stop at random, cue by cue.

    Parameters
    ----------
    logits
        Tensor [t, k], logit of stopping at a cue once it is reached.
    bad
        [t, k], 1 where a stop is bad, else 0.
    costs
        [t, k], share of the trace's tokens spent at the cue.
    present
        [t, k], bool; false in the padding.
    bad_weight
        Price of a bad stop.

    Returns
    -------
    Tensor [t]
        ``sum_k e_k (bad_weight bad_k + costs_k) + (1 - sum_k e_k)``, where
        ``e_k = p_k prod_{j<k} (1 - p_j)`` is the chance that the first exit is cue k.

    Notes
    -----
    After JEI-DNN (arXiv 2310.09163), whose gates and classifiers share one such loss over the
    layers of a network; here the exits are a trace's cues, and what is classified is stopping.

    """
    import torch

    stay = torch.where(present, torch.nn.functional.logsigmoid(-logits), 0.0)
    stop = torch.where(present, torch.nn.functional.logsigmoid(logits), -torch.inf)
    survived = torch.cumsum(stay, dim=1)
    exits = torch.exp(stop + survived - stay)
    return (exits * (bad_weight * bad + costs)).sum(dim=1) + torch.exp(survived[:, -1])


def fit_first_exit(
    traces: TrainingTraces,
    spec: ProbeSpec,
    *,
    bad_weight: float = BAD_WEIGHT,
    seed: int = 0,
    held_out: float = 0.2,
) -> FitResult:
    """Fit a probe by the expected cost of its first exits, shaping included.

    Parameters
    ----------
    traces
        Hidden states of width ``spec.input_dim``. Cues without a label are no exits here.
    spec
        Of kind "linear" or "mlp".
    bad_weight
        Price of a bad stop, in full traces' worth of tokens; positive.
    seed
        Fixes every draw.
    held_out
        Share of groups that the metrics are measured on.

    Returns
    -------
    FitResult
        An ordinary probe. Its score is the logit of stopping in training, so that zero is where
        training would stop, not the logit of the label's probability; the metrics therefore have
        no Brier score and no calibration error. ``chosen`` has the expected cost on the held-out
        groups before and after.

    Raises
    ------
    InputError
        If one class is missing, there are too few groups to hold any out, or the spec is a gru's.

    Notes
    -----
    It starts from :func:`probes.fit.fit_probe` on the same cues. The number of epochs, possibly
    none, is chosen on held-out groups. Zero is first put where stopping costs least.

    """
    if not (np.isfinite(bad_weight) and bad_weight > 0.0):
        raise InputError(f"bad_weight is {bad_weight}; give a positive number, such as 10")
    traces = traces.keep_cues(traces.labelled)
    cue_groups = traces.cue_groups
    start = fit_probe(traces.hidden, traces.labels == GOOD, cue_groups, spec, seed=seed)
    rng = np.random.default_rng(seed)
    test = _held_out(traces, held_out, rng)
    train, judged = (traces.take(np.flatnonzero(part)) for part in (~test, test))
    check = _held_out(train, 0.15, rng)
    twin = _Fitting(train.take(np.flatnonzero(~check)), spec, bad_weight, seed)
    before = twin.cost(judged)
    epochs = twin.fit_until(train.take(np.flatnonzero(check)), rng)
    scores = twin.export().score(judged.hidden)
    metrics = quality(scores, judged.labels == GOOD) | {"brier": None, "ece": None}
    final = _Fitting(traces, spec, bad_weight, seed, start.probe)
    for _ in tqdm(range(epochs), desc="fitting on all groups", unit="epoch", leave=False):
        final.epoch(rng)
    chosen = start.chosen | {
        "bad_weight": bad_weight,
        "exit_epochs": epochs,
        "cost_before": before,
        "cost_after": twin.cost(judged),
        "held_out_groups": int(np.unique(judged.cue_groups).size),
    }
    return FitResult(final.export(), metrics, chosen)


def _held_out(
    traces: TrainingTraces, share: float, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    cue_groups = traces.cue_groups
    _, group = np.unique(cue_groups, return_inverse=True)
    rows = hold_out(traces.labels == GOOD, group, share, rng)
    return np.isin(traces.groups, cue_groups[rows])


class _Fitting:
    """A torch model, its traces and its optimiser; every cue has a label."""

    def __init__(
        self,
        traces: TrainingTraces,
        spec: ProbeSpec,
        bad_weight: float,
        seed: int,
        start: Any = None,
    ) -> None:
        import torch

        if start is None:
            labels = traces.labels == GOOD
            start = fit_probe(traces.hidden, labels, traces.cue_groups, spec, seed=seed).probe
        assert isinstance(start, Probe)
        self.torch, self.traces, self.spec, self.bad_weight = torch, traces, spec, bad_weight
        shaped = _shaped(start, traces)
        self.temperature = float(shaped.std() / SHARPNESS) or 1.0
        zero = _cheapest(shaped, traces, bad_weight)
        self.scaling = Standardiser.of(traces.hidden)
        (weight, bias), *inner = start.layers
        layers: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]
        layers = [self.scaling.unfold(weight, bias), *inner]
        self.layers: list[Any] = []
        for wide, shift in layers:
            linear = torch.nn.Linear(wide.shape[1], wide.shape[0])
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(np.array(wide)))
                linear.bias.copy_(torch.from_numpy(np.array(shift)))
            self.layers.append(linear)
        with torch.no_grad():
            # The score becomes the logit of stopping itself; shaping commutes with both steps.
            self.layers[-1].bias -= zero
            self.layers[-1].weight /= self.temperature
            self.layers[-1].bias /= self.temperature
        self.parameters = [part for layer in self.layers for part in layer.parameters()]
        self.optimiser = torch.optim.Adam(self.parameters, lr=LEARNING_RATE)

    def costs(self, traces: TrainingTraces, batch: npt.NDArray[np.int64]) -> Any:
        """Return the expected cost of each trace of a batch; tensor [t]."""
        torch = self.torch
        cues, rows, columns = traces.batch(batch)
        state = torch.from_numpy(self.scaling.apply(traces.hidden[cues]))
        for index, layer in enumerate(self.layers):
            state = layer(torch.relu(state) if index else state)
        places = (torch.from_numpy(rows), torch.from_numpy(columns))
        size = (len(batch), int(columns.max()) + 1)
        present = torch.zeros(size, dtype=torch.bool).index_put(places, torch.tensor(True))
        # Padding comes last in a trace: whatever it holds, no minimum before it changes.
        raw = torch.zeros(size).index_put(places, state.squeeze(1))
        logits = raw + weight_of(self.spec) * (raw - torch.cummin(raw, dim=1).values)
        bad = torch.zeros(size).index_put(
            places, torch.from_numpy((traces.labels[cues] == BAD).astype(np.float32))
        )
        spent = torch.zeros(size).index_put(
            places, torch.from_numpy(traces.costs[cues].astype(np.float32))
        )
        return expected_cost(logits, bad, spent, present, self.bad_weight)

    def cost(self, traces: TrainingTraces) -> float:
        """Return the mean expected cost of traces that have cues."""
        every = np.flatnonzero(np.diff(traces.offsets))
        total = 0.0
        with self.torch.no_grad():
            for first in range(0, len(every), BATCH_TRACES):
                total += float(self.costs(traces, every[first : first + BATCH_TRACES]).sum())
        return total / len(every)

    def epoch(self, rng: np.random.Generator) -> None:
        """Step once through the traces, in random order."""
        for batch in self.traces.batches(BATCH_TRACES, rng):
            self.optimiser.zero_grad()
            self.costs(self.traces, batch).mean().backward()
            self.torch.nn.utils.clip_grad_norm_(self.parameters, CLIP_NORM)
            self.optimiser.step()

    def fit_until(self, check: TrainingTraces, rng: np.random.Generator) -> int:
        """Train until held-out traces get no cheaper; keep the best weights and its epoch."""
        best, best_cost, kept = 0, self.cost(check), self._weights()
        bar = tqdm(range(1, MAX_EPOCHS + 1), desc="fitting first exits", unit="epoch", leave=False)
        for epoch in bar:
            self.epoch(rng)
            cost = self.cost(check)
            if cost < best_cost:
                best, best_cost, kept = epoch, cost, self._weights()
            elif epoch - best >= PATIENCE:
                break
        bar.close()
        with self.torch.no_grad():
            for parameter, value in zip(self.parameters, kept, strict=True):
                parameter.copy_(value)
        return best

    def _weights(self) -> Sequence[Any]:
        return [parameter.detach().clone() for parameter in self.parameters]

    def export(self) -> Probe:
        """Fold the standardisation into plain weights."""
        arrays = [
            (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
            for layer in self.layers
        ]
        first = self.scaling.fold(*arrays[0])
        rest = [(weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in arrays[1:]]
        return Probe(self.spec, [first, *rest])


def _shaped(probe: Probe, traces: TrainingTraces) -> npt.NDArray[np.float32]:
    raw = probe.score(traces.hidden)
    parts = np.split(raw, traces.offsets[1:-1])
    return np.concatenate([shape(part, probe.spec) for part in parts])


def _cheapest(shaped: npt.NDArray[np.float32], traces: TrainingTraces, bad_weight: float) -> float:
    """Return the threshold, of 64 quantiles of the scores, at which hard stops cost least."""
    prices = bad_weight * (traces.labels == BAD) + traces.costs
    rows = traces.rows
    levels = np.unique(np.quantile(shaped, np.linspace(0.0, 1.0, 64)))
    totals = []
    for level in levels:
        passing = np.flatnonzero(shaped > level)[::-1]
        price = np.ones(len(traces))
        price[rows[passing]] = prices[passing]  # backwards: the first cue of a trace comes last
        totals.append(float(price.sum()))
    return float(levels[int(np.argmin(totals))])
