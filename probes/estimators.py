"""Fitted scikit-learn estimators and their export to plain weights.

scikit-learn is imported on first use: the engine imports this package without it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from probes.network import FloatArray, Probe
from probes.spec import ProbeSpec

Labels = npt.NDArray[np.bool_]


def linear(
    hidden: npt.NDArray[np.float32], truth: Labels, strength: float, seed: int
) -> tuple[Any, bool]:
    """Fit StandardScaler + LogisticRegression, classes balanced.

    Parameters
    ----------
    hidden
        float32 [n, d].
    truth
        bool [n], both classes.
    strength
        Inverse penalty.
    seed
        Fixes the solver's draws.

    Returns
    -------
    Pipeline, bool
        And whether the solver converged.

    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = LogisticRegression(
        C=strength, class_weight="balanced", max_iter=1000, random_state=seed
    )
    pipeline = make_pipeline(StandardScaler(), model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        pipeline.fit(hidden.astype(np.float64), truth)
    stalled = any(issubclass(item.category, ConvergenceWarning) for item in caught)
    return pipeline, not stalled


def epochs(
    hidden: npt.NDArray[np.float32], truth: Labels, spec: ProbeSpec, count: int, seed: int
) -> Iterator[Any]:
    """Fit StandardScaler + MLPClassifier by Adam, classes balanced; yield after each epoch.

    The pipeline yielded is the same object each time: copy it to keep it.
    """
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(hidden.astype(np.float64))
    data = scaler.transform(hidden.astype(np.float64))
    # scikit-learn's own early stopping would split by cue, not by prompt: drive the epochs here.
    model = MLPClassifier(hidden_layer_sizes=spec.hidden_dims, random_state=seed)
    weight = balanced(truth)
    for _ in range(count):
        model.partial_fit(data, truth, sample_weight=weight, classes=[False, True])
        yield Pipeline([("scaler", scaler), ("model", model)])


def export(pipeline: Any, spec: ProbeSpec, offset: float = 0.0) -> Probe:
    """Fold a fitted (StandardScaler, LogisticRegression | MLPClassifier) into plain weights.

    Parameters
    ----------
    pipeline
        A fitted scikit-learn ``Pipeline`` of two steps.
    spec
        Its shape.
    offset
        Added to every logit.

    Returns
    -------
    Probe
        Its scores equal the pipeline's logits plus ``offset`` up to the rounding of weights and
        bias to float32; for a linear probe within ``2**-23 * (|bias| + sum |w (h - mean)|)``.

    """
    scaler, model = (step for _, step in pipeline.steps)
    if spec.kind == "linear":
        weights, biases = [model.coef_], [model.intercept_]
    else:
        weights, biases = [matrix.T for matrix in model.coefs_], model.intercepts_
    first = (weights[0] / scaler.scale_).astype(np.float32)
    layers: list[tuple[FloatArray, FloatArray]] = []
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        shift = np.asarray(bias, dtype=np.float64)
        if index == 0:
            # With the rounded weights: a large common mean then cancels exactly.
            shift = shift - first.astype(np.float64) @ scaler.mean_
        if index == len(weights) - 1:
            shift = shift + offset
        layers.append((first if index == 0 else weight.astype(np.float32), shift.astype("f4")))
    return Probe(spec, layers)


def prior_logit(labels: Labels) -> float:
    """Return the log odds of the classes, which balanced weights take out of a fitted logit."""
    positive = int(labels.sum())
    return float(np.log(positive) - np.log(labels.size - positive))


def balanced(truth: Labels) -> npt.NDArray[np.float64]:
    """Return float64 [n] sample weights that give both classes the same sum; mean 1."""
    positive = truth.mean()
    return np.where(truth, 0.5 / positive, 0.5 / (1.0 - positive))
