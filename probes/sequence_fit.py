"""Fitting a sequence probe with torch, trace by trace, split by group."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from probes.estimators import balanced, linear, prior_logit
from probes.fit import FitResult, check_rows, choose_strength, hold_out
from probes.metrics import quality
from probes.sequence import SequenceProbe
from probes.spec import ProbeSpec
from probes.training_traces import GOOD, Standardiser, TrainingTraces

MAX_EPOCHS = 60
PATIENCE = 8
BATCH_TRACES = 32
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-2
CLIP_NORM = 1.0


def fit_sequence(
    traces: TrainingTraces, spec: ProbeSpec, *, seed: int = 0, held_out: float = 0.2
) -> FitResult:
    """Fit a gru over the cues of whole traces.

    Parameters
    ----------
    traces
        Hidden states of width ``spec.input_dim``. Cues without a label are read, not judged.
    spec
        Of kind "gru".
    seed
        Fixes every draw.
    held_out
        Share of groups that the metrics are measured on.

    Returns
    -------
    FitResult
        Scores are logits of the label's probability at the training data's own base rate.

    Raises
    ------
    InputError
        If one class is missing or there are too few groups to hold any out.

    Notes
    -----
    The direct term starts as the linear probe of the same cues and the memory's readout as zero,
    so that training can only leave the linear probe where held-out groups gain by it: the number
    of epochs, possibly none, is chosen on them (logistic loss, classes balanced, Adam with
    decoupled weight decay, gradient norm clipped).

    """
    known = traces.labelled
    truth = traces.labels[known] == GOOD
    _, group = np.unique(traces.cue_groups[known], return_inverse=True)
    check_rows(traces.hidden[known], truth, group, spec)
    rng = np.random.default_rng(seed)
    test = _traces_of(traces, known, hold_out(truth, group, held_out, rng))
    train = traces.take(np.flatnonzero(~test))
    check = _check_traces(train, rng)
    fitted, strength = _start(train.take(np.flatnonzero(~check)), spec, rng, seed)
    best, best_loss = 0, fitted.loss(train.take(np.flatnonzero(check)))
    kept = deepcopy(fitted.model.state_dict())
    for epoch in tqdm(range(1, MAX_EPOCHS + 1), desc="fitting the gru", unit="epoch", leave=False):
        fitted.epoch(rng)
        loss = fitted.loss(train.take(np.flatnonzero(check)))
        if loss < best_loss:
            best, best_loss, kept = epoch, loss, deepcopy(fitted.model.state_dict())
        elif epoch - best >= PATIENCE:
            break
    fitted.model.load_state_dict(kept)
    judged = traces.take(np.flatnonzero(test))
    scores = score_traces(fitted.export(), judged)[judged.labelled]
    metrics = quality(scores, judged.labels[judged.labelled] == GOOD)
    final, _ = _start(traces, spec, rng, seed, strength)
    for _ in tqdm(range(best), desc="fitting on all groups", unit="epoch", leave=False):
        final.epoch(rng)
    chosen: dict[str, float | int | bool | None] = {
        "strength": strength,
        "epochs": best,
        "converged": best < MAX_EPOCHS,
        "cues": int(truth.size),
        "groups": int(group.max()) + 1,
        "held_out_groups": int(np.unique(judged.cue_groups[judged.labelled]).size),
    }
    return FitResult(final.export(), metrics, chosen)


def score_traces(scorer: SequenceProbe, traces: TrainingTraces) -> npt.NDArray[np.float32]:
    """Score every cue, trace by trace; float32 [n]."""
    parts = [scorer.score(traces.hidden[low:high]) for low, high in pairwise(traces.offsets)]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _traces_of(
    traces: TrainingTraces, known: npt.NDArray[np.bool_], rows: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Turn held-out labelled cues into held-out traces, all of their groups'; bool [t]."""
    return np.isin(traces.groups, traces.cue_groups[known][rows])


def _check_traces(train: TrainingTraces, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    known = train.labelled
    _, group = np.unique(train.cue_groups[known], return_inverse=True)
    return _traces_of(train, known, hold_out(train.labels[known] == GOOD, group, 0.15, rng))


def _start(
    traces: TrainingTraces,
    spec: ProbeSpec,
    rng: np.random.Generator,
    seed: int,
    strength: float | None = None,
) -> tuple[_Fitting, float]:
    """Begin with the linear probe of these traces' cues."""
    known = traces.labelled
    hidden, truth = traces.hidden[known], traces.labels[known] == GOOD
    _, group = np.unique(traces.cue_groups[known], return_inverse=True)
    if strength is None:
        strength = choose_strength(hidden, truth, group, rng, seed)
    pipeline, _ = linear(hidden, truth, strength, seed)
    scaler, model = (step for _, step in pipeline.steps)
    scaling = Standardiser(scaler.mean_, scaler.scale_)
    return _Fitting(traces, spec, scaling, model.coef_, model.intercept_, seed), strength


class _Fitting:
    """A torch model, its traces and its optimiser."""

    def __init__(
        self,
        traces: TrainingTraces,
        spec: ProbeSpec,
        scaling: Standardiser,
        weight: npt.NDArray[np.float64],
        bias: npt.NDArray[np.float64],
        seed: int,
    ) -> None:
        import torch

        self.torch, self.traces, self.spec, self.scaling = torch, traces, spec, scaling
        width = spec.hidden_dims[0]
        # torch draws first weights from its global state: lend it a seeded one, give it back.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = torch.nn.ModuleDict(
                {
                    "direct": torch.nn.Linear(spec.input_dim, 1, bias=False),
                    "input": torch.nn.Linear(spec.input_dim, width),
                    "gru": torch.nn.GRU(width, width, batch_first=True),
                    "output": torch.nn.Linear(width, 1),
                }
            )
        with torch.no_grad():
            self.model["direct"].weight.copy_(torch.from_numpy(weight))
            self.model["output"].weight.zero_()
            self.model["output"].bias.copy_(torch.from_numpy(bias))
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )

    def logits(self, traces: TrainingTraces, batch: npt.NDArray[np.int64]) -> tuple[Any, Any]:
        """Score a padded batch; the logits of its cues, and these cues' indices."""
        torch = self.torch
        cues, rows, columns = traces.batch(batch)
        inputs = torch.from_numpy(self.scaling.apply(traces.hidden[cues]))
        reads = self.model["input"](inputs)
        padded = reads.new_zeros(len(batch), int(columns.max()) + 1, reads.shape[1])
        padded = padded.index_put((torch.from_numpy(rows), torch.from_numpy(columns)), reads)
        memory, _ = self.model["gru"](padded)
        logit = self.model["direct"](inputs) + self.model["output"](memory[rows, columns])
        return logit.squeeze(1), cues

    def loss(self, traces: TrainingTraces) -> float:
        """Return the balanced logistic loss on other traces."""
        weigh = _weights(traces)
        total = 0.0
        with self.torch.no_grad():
            for batch in traces.batches(BATCH_TRACES, np.random.default_rng(0)):
                logit, cues = self.logits(traces, batch)
                total += float(self._sum(logit, traces.labels[cues], weigh[cues]))
        return total / float(weigh.sum())

    def epoch(self, rng: np.random.Generator) -> None:
        """Step once through the traces, in random order."""
        weigh = _weights(self.traces)
        for batch in self.traces.batches(BATCH_TRACES, rng):
            logit, cues = self.logits(self.traces, batch)
            weight = weigh[cues]
            if not weight.any():
                continue
            loss = self._sum(logit, self.traces.labels[cues], weight) / float(weight.sum())
            self.optimiser.zero_grad()
            loss.backward()
            self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
            self.optimiser.step()

    def _sum(
        self, logit: Any, labels: npt.NDArray[np.int8], weight: npt.NDArray[np.float64]
    ) -> Any:
        torch = self.torch
        return torch.nn.functional.binary_cross_entropy_with_logits(
            logit,
            torch.from_numpy((labels == GOOD).astype(np.float32)),
            weight=torch.from_numpy(weight.astype(np.float32)),
            reduction="sum",
        )

    def export(self) -> SequenceProbe:
        """Fold the standardisation and the base rate into plain weights."""
        named = {
            name: tensor.detach().double().numpy()
            for name, tensor in self.model.state_dict().items()
        }
        truth = self.traces.labels[self.traces.labelled] == GOOD
        bias = named["output.bias"] + prior_logit(truth)
        direct, bias = self.scaling.fold(named["direct.weight"], bias)
        read, shift = self.scaling.fold(named["input.weight"], named["input.bias"])
        tensors: dict[str, npt.NDArray[Any]] = {
            "direct.weight": direct,
            "input.weight": read,
            "input.bias": shift,
            "output.weight": named["output.weight"].astype(np.float32),
            "output.bias": bias,
        }
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            tensors[f"gru.{part}"] = named[f"gru.{part}_l0"].astype(np.float32)
        return SequenceProbe(self.spec, tensors)


def _weights(traces: TrainingTraces) -> npt.NDArray[np.float64]:
    weight = np.zeros(len(traces.labels))
    known = traces.labelled
    weight[known] = balanced(traces.labels[known] == GOOD)
    return weight
