"""Whether a halting rule keeps alpha where its level is found again and again on real decodes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.denoising import replay, worst_scores
from calibration.denoising_table import DenoisingTable
from calibration.evaluate import clopper_pearson
from calibration.risk import require_units, threshold
from probes.errors import InputError


@dataclass(frozen=True, slots=True)
class Redraws:
    """Levels found on random halves of the decodes, each judged on the other half.

    Attributes
    ----------
    alpha, method
        Of each calibration.
    count
        Repetitions.
    n_calibrate, n_test
        Decodes of either half.
    mean_risk
        Mean share of decodes that are halted with another answer.
    above
        Repetitions with a share above alpha. The half that is judged is a sample too, and what one
        half lacks the other has: more of them than the confidence allows is no breach.
    clearly_above
        Those whose 95 % interval lies above alpha.
    speedup
        Passes of the full decodes over the mean passes spent.

    """

    alpha: float
    method: str
    count: int
    n_calibrate: int
    n_test: int
    mean_risk: float
    above: int
    clearly_above: int
    speedup: float

    def to_json(self) -> dict[str, Any]:
        """Return plain fields."""
        return asdict(self)


def redraw(
    scores: NDArray[np.float32],
    table: DenoisingTable,
    alpha: float,
    method: str,
    confidence: float,
    count: int,
    seed: int = 0,
) -> Redraws:
    """Find the level on a random half of the decodes and judge it on the other half, many times.

    Parameters
    ----------
    scores
        float32 [n_steps], of a rule whose shape was chosen on none of these decodes.
    table
        The decodes, one a group.
    alpha, method, confidence
        As in :mod:`calibration.risk`.
    count
        Repetitions, at least 1.
    seed
        Of the halves.

    Raises
    ------
    InputError
        If there are several decodes of a group, or nothing is to be repeated.
    TooFewTraces
        If a half cannot carry the promise.

    """
    n = len(table)
    if count < 1:
        raise InputError(f"{count} repeats: give at least 1")
    if len(set(table.groups)) < n:
        raise InputError("several decodes of one group; take one of each for repeated calibrations")
    half = n // 2
    require_units(half, method, alpha, confidence)
    worst = worst_scores(scores, table)
    rng = np.random.default_rng(seed)
    risks, steps, clear = [], [], 0
    for _ in range(count):
        order = rng.permutation(n)
        level = threshold(worst[order[:half]], alpha, method, confidence)
        told = replay(scores, level, table)
        judged = order[half:]
        bad = int((~told.agree[judged]).sum())
        risks.append(bad / len(judged))
        steps.append(float(told.steps[judged].mean() / told.full_steps[judged].mean()))
        clear += clopper_pearson(bad, len(judged), float(len(judged)))[0] > alpha
    return Redraws(
        alpha=alpha,
        method=method,
        count=count,
        n_calibrate=half,
        n_test=n - half,
        mean_risk=float(np.mean(risks)),
        above=int((np.array(risks) > alpha).sum()),
        clearly_above=int(clear),
        speedup=float(1 / np.mean(steps)),
    )
