"""``beta-mixture``: a threshold without any label, from the shape of the scores alone (FREE)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, digamma, expit, logsumexp, xlog1py, xlogy

from calibration.rules.base import FittedRule, Guarantee, Numbers, Terms
from calibration.rules.scored import ScoredRule
from calibration.table import CueTable
from probes.errors import InputError

_EDGE = 1e-4  # probabilities are kept this far from 0 and 1, where a Beta density has poles
_STEPS, _TOLERANCE = 200, 1e-6
_SMALLEST, _LARGEST = 0.05, 1e4  # bounds of a shape parameter


@dataclass(frozen=True)
class BetaMixture(ScoredRule):
    """Fit a mixture of two Beta densities to p = sigmoid(score) and trust the upper one.

    After FREE (Bae et al., EMNLP 2023), which adapts its exit threshold so: expectation
    maximisation on scores without labels, then stop where the probability of the upper component
    is at least 1 - alpha. Nothing ties a component to the right answers, so that alpha is only a
    figure in it: no guarantee at all, not even per cue.
    """

    name: ClassVar[str] = "beta-mixture"
    guarantee: ClassVar[Guarantee] = "none"
    numbers: ClassVar[tuple[str, ...]] = ("threshold", "weights", "a", "b")

    def _fit(self, table: CueTable, terms: Terms) -> FittedRule:
        p = np.clip(expit(table.scores.astype(np.float64)), _EDGE, 1 - _EDGE)
        if len(np.unique(p)) < 4:
            raise InputError(
                f"rule 'beta-mixture': the {table.n_cues} scores take fewer than four values "
                "between the edges, which cannot be two Beta densities; check the probe, or choose "
                "another rule."
            )
        weights, a, b = fit_mixture(p)
        # From the highest score down, as long as the upper component is likely enough.
        descending = np.sort(table.scores)[::-1]
        clipped = np.clip(expit(descending.astype(np.float64)), _EDGE, 1 - _EDGE)
        unlikely = np.flatnonzero(_posterior(clipped, weights, a, b)[1] < 1 - terms.alpha)
        limit = float(descending[unlikely[0]]) if unlikely.size else -math.inf
        said = (
            "Two Beta densities fitted to unlabelled scores; stops where the upper one has "
            f"probability {1 - terms.alpha:g}. This promises nothing: not that at most "
            f"{terms.alpha:g} of requests are stopped badly, nor of cues. A baseline for "
            "comparison, not for serving."
        )
        found: Numbers = {
            "threshold": limit,
            "weights": tuple(weights),
            "a": tuple(a),
            "b": tuple(b),
        }
        return FittedRule(self, found, said)

    def check_numbers(self, found: Numbers) -> None:
        """Refuse numbers of another shape than a threshold and two components."""
        pairs = [found[name] for name in ("weights", "a", "b")]
        if isinstance(found["threshold"], tuple) or not all(
            isinstance(pair, tuple) and len(pair) == 2 for pair in pairs
        ):
            raise InputError(
                "rule 'beta-mixture': the parameters must be one threshold and pairs of weights, "
                "a and b."
            )


def fit_mixture(p: NDArray[np.float64]) -> tuple[list[float], list[float], list[float]]:
    """Fit two Beta densities by expectation maximisation; the second has the higher mean.

    Parameters
    ----------
    p
        float64[n], strictly between 0 and 1.

    Returns
    -------
    Weights, a and b of the two components.
    """
    upper = (p > np.median(p)).astype(np.float64) * 0.8 + 0.1
    responsibilities = np.stack([1 - upper, upper])
    weights, a, b = [0.5, 0.5], [1.0, 2.0], [2.0, 1.0]
    before = -math.inf
    for _ in range(_STEPS):
        shares = responsibilities.sum(axis=1)
        weights = [float(share / len(p)) for share in shares]
        for part in range(2):
            if shares[part] > 1:  # a component that has died keeps its shape
                a[part], b[part] = _fit_beta(p, responsibilities[part] / shares[part])
        joint = _log_densities(p, weights, a, b)
        likelihood = float(logsumexp(joint, axis=0).mean())
        responsibilities = np.exp(joint - logsumexp(joint, axis=0))
        if abs(likelihood - before) < _TOLERANCE:
            break
        before = likelihood
    if a[0] / (a[0] + b[0]) > a[1] / (a[1] + b[1]):
        return weights[::-1], a[::-1], b[::-1]
    return weights, a, b


def _fit_beta(p: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[float, float]:
    """Maximise a weighted Beta likelihood: digamma(a) - digamma(a + b) = mean log p, and so on."""
    from scipy.optimize import root  # the engine, which never comes here, is spared the import

    mean = float(weights @ p)
    variance = max(float(weights @ (p - mean) ** 2), 1e-12)
    size = max(mean * (1 - mean) / variance - 1, 0.1)
    start = np.log(np.clip([mean * size, (1 - mean) * size], _SMALLEST, _LARGEST))
    wanted = np.array([weights @ np.log(p), weights @ np.log1p(-p)])

    def off(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        shape = np.exp(np.clip(logs, math.log(_SMALLEST), math.log(_LARGEST)))
        return np.asarray(digamma(shape) - digamma(shape.sum()) - wanted)

    found = root(off, start, method="hybr")
    # Where no inner solution exists (all mass in one point) the moments stand.
    logs = found.x if found.success else start
    first, second = np.clip(np.exp(np.clip(logs, -50, 50)), _SMALLEST, _LARGEST)
    return float(first), float(second)


def _log_densities(
    p: NDArray[np.float64], weights: list[float], a: list[float], b: list[float]
) -> NDArray[np.float64]:
    rows = [
        math.log(max(weight, 1e-300)) + xlogy(i - 1, p) + xlog1py(j - 1, -p) - betaln(i, j)
        for weight, i, j in zip(weights, a, b, strict=True)
    ]
    return np.stack(rows)


def _posterior(
    p: NDArray[np.float64], weights: list[float], a: list[float], b: list[float]
) -> NDArray[np.float64]:
    joint = _log_densities(p, weights, a, b)
    return np.asarray(np.exp(joint - logsumexp(joint, axis=0)))
