"""What halting rules do on recorded decodes: passes, agreement with the full decode, accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibration.denoising import DenoisingTable, Replay
from calibration.denoising import replay as replay_at
from calibration.evaluate import INTERVAL_LEVEL, clopper_pearson
from probes.errors import InputError

GAMMA = 4
"""Exponent of the quality in :func:`qps`, as in SchED (arXiv 2512.02892)."""

Guarantee = Literal["risk", "none"]


@dataclass(frozen=True, slots=True)
class HaltingOutcome:
    """What a rule does on a data set.

    Attributes
    ----------
    rule
        Its name, as printed.
    guarantee
        "risk" where at most alpha of the requests disagree by promise, else "none".
    steps, full_steps
        Mean forward passes a request, and those of the full decodes.
    disagreements
        Requests whose answer is not the full decode's; a whole number but for mixtures.
    disagreement_share, interval
        Their share, with the Clopper-Pearson interval (None for mixtures, and where disagreeing is
        impossible).
    halted_share
        Share of requests halted at all before their end.
    accuracy, full_accuracy
        Share of right answers; None where one is unknown.
    level
        The rule's, where it has one.

    """

    rule: str
    guarantee: Guarantee
    n: int
    steps: float
    full_steps: float
    disagreements: float
    disagreement_share: float
    interval: tuple[float, float] | None
    halted_share: float
    accuracy: float | None
    full_accuracy: float | None
    level: float | None = None

    @property
    def agreement(self) -> float:
        """Share of requests that answer as the full decode."""
        return 1 - self.disagreement_share

    @property
    def speedup(self) -> float:
        """Passes of the full decode over passes spent."""
        return self.full_steps / self.steps

    @property
    def qps(self) -> float | None:
        """See :func:`qps`; None where an accuracy is unknown."""
        return qps(self.speedup, self.accuracy, self.full_accuracy)

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON; unknown figures are null, infinities strings."""
        level = self.level
        if level is not None and math.isinf(level):
            spelled: float | str | None = "Infinity" if level > 0 else "-Infinity"
        else:
            spelled = level
        return {
            "rule": self.rule,
            "guarantee": self.guarantee,
            "steps": self.steps,
            "full_steps": self.full_steps,
            "speedup": self.speedup,
            "agreement": self.agreement,
            "disagreements": self.disagreements,
            "disagreement_interval": list(self.interval or ()),
            "disagreement_interval_level": INTERVAL_LEVEL,
            "halted_share": self.halted_share,
            "accuracy": self.accuracy,
            "full_accuracy": self.full_accuracy,
            "qps": self.qps,
            "level": spelled,
        }


def qps(
    speedup: float, accuracy: float | None, full_accuracy: float | None, gamma: float = GAMMA
) -> float | None:
    """Weigh a speed-up by the quality kept: speedup x (accuracy / full accuracy)^gamma.

    Returns
    -------
    None where an accuracy is unknown or the full decode is never right.

    Examples
    --------
    >>> qps(3.0, 0.9, 0.9), qps(3.0, None, 0.9)
    (3.0, None)

    """
    if accuracy is None or not full_accuracy:
        return None
    return float(speedup * (accuracy / full_accuracy) ** gamma)


class HaltingEvaluator:
    """Replays rules on one set of full decodes.

    Parameters
    ----------
    table
        Held-out decodes.
    source
        What to call them in errors.

    Raises
    ------
    InputError
        When there is none.

    """

    def __init__(self, table: DenoisingTable, source: str = "the test decodes") -> None:
        if not len(table):
            raise InputError(f"{source}: there is no decode to evaluate.")
        self.table = table
        self.full = self.outcome("full decode", _never(table), math.inf, certain=True)

    def outcome(
        self,
        rule: str,
        scores: NDArray[np.float32],
        level: float,
        guarantee: Guarantee = "none",
        certain: bool = False,
    ) -> HaltingOutcome:
        """Replay a rule given by its scores.

        Parameters
        ----------
        rule
            Its name.
        scores, level
            float32 [n_steps] and what they must exceed.
        guarantee
            Whether the rule promises a risk.
        certain
            Whether it cannot disagree, so that a count of none is no estimate.

        """
        told = replay_at(scores, level, self.table)
        n, bad = len(self.table), int((~told.agree).sum())
        groups = len(set(self.table.groups))
        return HaltingOutcome(
            rule=rule,
            guarantee=guarantee,
            n=n,
            steps=float(told.steps.mean()),
            full_steps=float(told.full_steps.mean()),
            disagreements=float(bad),
            disagreement_share=bad / n,
            interval=None if certain else clopper_pearson(bad, n, float(groups)),
            halted_share=float(told.halted.mean()),
            accuracy=_share(told.correct),
            full_accuracy=_share(self.table.full_correct()),
            level=float(np.float32(level)),
        )

    def replay(self, scores: NDArray[np.float32], level: float) -> Replay:
        """Replay decode by decode."""
        return replay_at(scores, level, self.table)

    def oracle(self) -> HaltingOutcome:
        """Halt each block at its first step that agrees: what no rule can know."""
        return replace(
            self.outcome("oracle", self.table.agree.astype(np.float32), 0.5, certain=True),
            level=None,
        )

    def budget(self, steps: float) -> HaltingOutcome:
        """Halt every block after the same number of steps, tuned to given mean passes.

        Two neighbouring numbers of steps are mixed at random, request by request, to meet `steps`;
        the outcome is the mixture's expectation.
        """
        starts = self.table.block_offsets[:-1]
        counts = np.diff(self.table.block_offsets)
        places = (np.arange(self.table.n_steps) - np.repeat(starts, counts)).astype(np.float32)
        longest = int(counts.max())

        def after(count: int) -> HaltingOutcome:
            return self.outcome("fixed steps", places, count - 1.5)

        low, high = 1, longest
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if after(middle).steps <= steps else (low, middle)
        under, over = after(low), after(high)
        span = over.steps - under.steps
        weight = 0.0 if span <= 0 else min(1.0, max(0.0, (steps - under.steps) / span))
        return _mixed(under, over, weight)


def _mixed(under: HaltingOutcome, over: HaltingOutcome, weight: float) -> HaltingOutcome:
    def mix(first: float, second: float) -> float:
        return first + weight * (second - first)

    unknown = under.accuracy is None or over.accuracy is None
    return replace(
        under,
        steps=mix(under.steps, over.steps),
        disagreements=mix(under.disagreements, over.disagreements),
        disagreement_share=mix(under.disagreement_share, over.disagreement_share),
        interval=None,
        halted_share=mix(under.halted_share, over.halted_share),
        accuracy=None if unknown else mix(under.accuracy or 0.0, over.accuracy or 0.0),
        level=None,
    )


def cheapest_at(outcomes: Sequence[HaltingOutcome], agreement: float) -> HaltingOutcome | None:
    """Give the outcome of the fewest passes among those that agree at least so often."""
    enough = [one for one in outcomes if one.agreement >= agreement]
    return min(enough, key=lambda one: one.steps, default=None)


def _never(table: DenoisingTable) -> NDArray[np.float32]:
    return np.full(table.n_steps, -np.inf, dtype=np.float32)


def _share(labels: NDArray[np.int8]) -> float | None:
    return None if (labels < 0).any() else float(labels.mean())
