"""Several candidates tested at once on the same calibration units, with a correction for that.

Learn then Test (Angelopoulos et al., 2021): every candidate setting is a hypothesis "its risk is
above alpha". MAPIE's :class:`BinaryClassificationController` rejects hypotheses so that, with the
confidence, none is rejected wrongly; whoever then picks among the rejected ones, by whatever
criterion, keeps alpha. One row a unit, predicted 1 where a candidate would be bad on it: the risk
is the share of ones.

* ``bonferroni_holm``: the candidates are fixed beforehand; each must stand out against their
  number.
* ``split_fixed_sequence``: a second, independent set of units puts them into an order, strongest
  evidence first; they are tested in that order, each at the full level, until the first failure.
"""

from __future__ import annotations

import importlib.util
import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calibration.risk import check_alpha, minimum_units
from probes.errors import InputError, TooFewTraces, UnsupportedError

Correction = Literal["bonferroni_holm", "split_fixed_sequence"]
CORRECTIONS: tuple[Correction, ...] = ("bonferroni_holm", "split_fixed_sequence")

# As MAPIE's own grid of p-values, but not in 1,000 steps: each costs a look at every candidate.
_BETAS = np.logspace(-25, 0, 300)


def valid_candidates(
    losses: NDArray[np.bool_],
    alpha: float,
    confidence: float,
    correction: Correction = "bonferroni_holm",
    learning: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Find the candidates whose risk is at most alpha, all of them together with the confidence.

    Parameters
    ----------
    losses
        bool[n_units, n_candidates]: whether a candidate is bad on a calibration unit.
    alpha, confidence
        Of the promise, each in (0, 1).
    correction
        For the number of candidates.
    learning
        bool[n_others, n_candidates], the same on other units, which give the order of
        ``split_fixed_sequence``; nothing may have been fitted to `losses`.

    Returns
    -------
    int64[n_valid], indices of candidates, ascending; empty where none can be certified.

    Raises
    ------
    TooFewTraces
        When even candidates that are never bad could not be certified; says how many are missing.
    InputError
        When an argument is out of its range.
    UnsupportedError
        When MAPIE is not installed.
    """
    count, candidates = losses.shape
    _check(count, candidates, alpha, confidence, correction, learning)
    if importlib.util.find_spec("mapie") is None:
        raise UnsupportedError(
            "method mapie needs MAPIE; install it with `pip install 'stopper[calibrate]'`."
        )
    from mapie.risk_control import BinaryClassificationController

    # A row is its number; rows of the learning units come after those of calibration.
    every = losses if learning is None else np.concatenate([losses, learning])

    def predict(rows: NDArray[np.int64], candidate: float) -> NDArray[np.int64]:
        return np.asarray(every[rows[:, 0], int(candidate)], dtype=np.int64)

    controller = BinaryClassificationController(
        predict_function=predict,
        risk="predicted_positive_fraction",
        target_level=float(alpha),
        confidence_level=float(confidence),
        best_predict_param_choice="predicted_positive_fraction",
        list_predict_params=np.arange(candidates)[:, None],
        fwer_method=correction,
    )
    rows = np.arange(len(every))[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where no candidate is certified
        if learning is not None:
            others = rows[count:]
            controller.learn_fixed_sequence_order(
                others, np.zeros(len(others), int), beta_grid=_BETAS, binary=True
            )
        controller.calibrate(rows[:count], np.zeros(count, int))
    found = np.asarray(controller.valid_predict_params, dtype=np.int64).ravel()
    return np.sort(found)


def fewest_units(candidates: int, alpha: float, confidence: float, correction: Correction) -> int:
    """Give the smallest number of units on which a candidate that is never bad can be certified."""
    if correction == "bonferroni_holm":
        return minimum_units("ltt", alpha, 1 - (1 - confidence) / candidates)
    return minimum_units("ltt", alpha, confidence)


def _check(
    count: int,
    candidates: int,
    alpha: float,
    confidence: float,
    correction: str,
    learning: NDArray[np.bool_] | None,
) -> None:
    if correction not in CORRECTIONS:
        choices = ", ".join(CORRECTIONS)
        raise InputError(f"correction {correction!r} is unknown; choose one of {choices}.")
    check_alpha(alpha)
    if not candidates:
        raise InputError("there is no candidate to test; give at least one.")
    ordered = correction == "split_fixed_sequence"
    if ordered != (learning is not None):
        state = "needs units that give the order" if ordered else "takes no order"
        raise InputError(f"correction {correction} {state}.")
    if learning is not None and (learning.shape[1] != candidates or not len(learning)):
        raise InputError("the units that give the order must be of the same candidates.")
    needed = fewest_units(candidates, alpha, confidence, correction)
    if count < needed:
        raise TooFewTraces(
            f"{count} calibration traces (rollouts of one group count once) are too few for alpha "
            f"{alpha:g} at confidence {confidence:g} by {correction} over {candidates} candidates: "
            f"it needs at least {needed}, so {needed - count} more. Collect {needed - count} more "
            "traces of other prompts, or test fewer candidates."
        )
