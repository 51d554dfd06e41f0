"""Fitting a probe with scikit-learn, split by group."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from probes.errors import InputError
from probes.estimators import balanced, epochs, export, linear, prior_logit
from probes.metrics import log_loss, quality
from probes.scorers import Scorer
from probes.spec import ProbeSpec

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse penalties that a linear probe is chosen from, by grouped cross-validation."""

MAX_EPOCHS = 200
PATIENCE = 10

Labels = npt.NDArray[np.bool_]
Groups = npt.NDArray[np.intp]


@dataclass(frozen=True)
class FitResult:
    """A probe, and how well its like does on prompts it has not seen.

    Attributes
    ----------
    probe
        Fitted on all groups given.
    metrics
        :func:`probes.metrics.quality` of a twin, fitted the same way without the held-out groups,
        on these groups' cues.
    chosen
        What fitting settled on, and the counts.

    """

    probe: Scorer
    metrics: dict[str, float | int | None]
    chosen: dict[str, float | int | bool | None]


def fit_probe(
    hidden: npt.NDArray[np.float32],
    labels: npt.ArrayLike,
    groups: npt.ArrayLike,
    spec: ProbeSpec,
    *,
    seed: int = 0,
    held_out: float = 0.2,
) -> FitResult:
    """Fit a probe.

    Parameters
    ----------
    hidden
        float32 [n, spec.input_dim], finite.
    labels
        bool [n]; true where stopping is good.
    groups
        [n], the prompt of each row; no prompt is on both sides of any split made here.
    spec
        What to fit.
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
        If one class is missing, there are too few groups to hold any out, or the spec is a gru's.

    Notes
    -----
    As in LYNX (arXiv 2512.05325): standardised features, classes weighted to balance, an MLP of
    (256, 64) by Adam with early stopping. Unlike it, held-out cues are of other prompts. Balanced
    weights shift the logit by the log odds of the classes; the exported bias takes that back.

    """
    if spec.kind == "gru":
        raise InputError("a gru reads whole traces; fit it with probes.sequence_fit")
    truth = np.asarray(labels, dtype=bool)
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    check_rows(hidden, truth, group, spec)
    rng = np.random.default_rng(seed)
    test = hold_out(truth, group, held_out, rng)
    train = ~test
    twin, chosen = _fit(hidden[train], truth[train], group[train], spec, rng, seed)
    measured = export(twin, spec, prior_logit(truth[train])).score(hidden[test])
    metrics = quality(measured, truth[test])
    final = _refit(hidden, truth, spec, chosen, seed)
    counts: dict[str, float | int | bool | None] = {
        "cues": int(truth.size),
        "groups": int(group.max()) + 1,
        "held_out_groups": int(np.unique(group[test]).size),
    }
    return FitResult(export(final, spec, prior_logit(truth)), metrics, {**chosen, **counts})


def check_rows(
    hidden: npt.NDArray[np.float32], truth: Labels, group: Groups, spec: ProbeSpec
) -> None:
    """Refuse rows of the wrong shape, of one class only, or that are not finite."""
    if hidden.shape != (truth.size, spec.input_dim) or group.size != truth.size:
        raise InputError(
            f"hidden states are {list(hidden.shape)}, labels {truth.size}, groups {group.size}; "
            f"expected [n, {spec.input_dim}], n, n"
        )
    if not truth.size:
        raise InputError("no labelled cue to fit a probe on. Collect traces that contain cues")
    if truth.all() or not truth.any():
        raise InputError(
            f"all {truth.size} cues carry the label {bool(truth[0])}: one class only, nothing to "
            "learn. Collect harder or more varied prompts, or choose another --label"
        )
    if not np.isfinite(hidden).all():
        row = int(np.flatnonzero(~np.isfinite(hidden).all(axis=1))[0])
        raise InputError(f"hidden state {row} holds NaN or infinity. Collect its trace again")


def hold_out(truth: Labels, group: Groups, share: float, rng: np.random.Generator) -> Labels:
    """Draw groups until both classes are on either side; bool [n], true where held out.

    Raises
    ------
    InputError
        If there are too few groups for that.

    """
    # A draw with one class only on a side would measure nothing: try others before giving up.
    count = int(group.max()) + 1
    take = max(1, round(share * count))
    for _ in range(50 if count > 1 else 0):
        drawn = np.zeros(count, dtype=bool)
        drawn[rng.permutation(count)[:take]] = True
        rows: Labels = drawn[group]
        if _two_classes(truth[rows]) and _two_classes(truth[~rows]):
            return rows
    raise InputError(
        f"{count} prompts are too few to hold any out with both classes on either side. "
        "Collect more prompts"
    )


def _two_classes(truth: Labels) -> bool:
    return bool(truth.any() and not truth.all())


def _fit(
    hidden: npt.NDArray[np.float32],
    truth: Labels,
    group: Groups,
    spec: ProbeSpec,
    rng: np.random.Generator,
    seed: int,
) -> tuple[Any, dict[str, float | int | bool | None]]:
    if spec.kind == "linear":
        strength = choose_strength(hidden, truth, group, rng, seed)
        pipeline, converged = linear(hidden, truth, strength, seed)
        return pipeline, {"strength": strength, "converged": converged}
    check = hold_out(truth, group, 0.15, rng)
    return _stop_early(hidden, truth, check, spec, seed)


def _refit(
    hidden: npt.NDArray[np.float32],
    truth: Labels,
    spec: ProbeSpec,
    chosen: dict[str, float | int | bool | None],
    seed: int,
) -> Any:
    if spec.kind == "linear":
        return linear(hidden, truth, float(chosen["strength"] or 0), seed)[0]
    pipeline = None
    for pipeline in epochs(hidden, truth, spec, int(chosen["epochs"] or 1), seed):  # noqa: B007
        pass
    return pipeline


def choose_strength(
    hidden: npt.NDArray[np.float32],
    truth: Labels,
    group: Groups,
    rng: np.random.Generator,
    seed: int,
) -> float:
    """Choose a linear probe's inverse penalty by three-fold cross-validation over groups."""
    fold = rng.permutation(int(group.max()) + 1)[group] % 3
    weight = balanced(truth)
    losses = dict.fromkeys(STRENGTHS, 0.0)
    for index in range(3):
        test = fold == index
        if not (test.any() and _two_classes(truth[~test])):
            continue
        for strength in STRENGTHS:
            pipeline, _ = linear(hidden[~test], truth[~test], strength, seed)
            logit = pipeline.decision_function(hidden[test].astype(np.float64))
            losses[strength] += log_loss(logit, truth[test], weight[test]) * weight[test].sum()
    # The first of equals is the strongest penalty.
    return min(losses, key=losses.__getitem__)


def _stop_early(
    hidden: npt.NDArray[np.float32], truth: Labels, check: Labels, spec: ProbeSpec, seed: int
) -> tuple[Any, dict[str, float | int | bool | None]]:
    weight = balanced(truth)
    best, best_loss, best_epoch = None, np.inf, 0
    fitting = epochs(hidden[~check], truth[~check], spec, MAX_EPOCHS, seed)
    for epoch, pipeline in enumerate(fitting, start=1):
        probe = export(pipeline, spec)
        logit = probe.score(hidden[check]).astype(np.float64)
        loss = log_loss(logit, truth[check], weight[check])
        if loss < best_loss:
            best, best_loss, best_epoch = deepcopy(pipeline), loss, epoch
        elif epoch - best_epoch >= PATIENCE:
            break
    return best, {"epochs": best_epoch, "converged": best_epoch < MAX_EPOCHS}
