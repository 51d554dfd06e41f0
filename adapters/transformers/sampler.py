"""How a canvas is decoded: its blocks, its steps and what a step may fill in. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from stopper.errors import InputError
from stopper.halting import PROGRESS_SCOPES, ProgressScope
from stopper.manifest import SamplerSpec

Order = Literal["confidence", "entropy", "margin"]

ORDERS: tuple[Order, ...] = get_args(Order)
"""Which positions are filled in first: the highest probability of the argmax (LLaDA's
low-confidence remasking), the lowest entropy, the widest gap between the two highest
probabilities."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """Fast-dLLM (arXiv 2505.22618): also fill in all whose argmax is at least this probable.

    Parameters
    ----------
    probability
        In (0, 1]; the paper takes 0.9.

    """

    probability: float = 0.9

    def __post_init__(self) -> None:
        _share("threshold: probability", self.probability)


@dataclass(frozen=True, slots=True)
class Stability:
    """KLASS (arXiv 2511.05664): also fill in all that are confident and have stopped moving.

    A position is filled in where its argmax is more probable than `probability` and, at each of
    the last `history` steps, the Kullback-Leibler divergence of its distribution from that of the
    step before was below `divergence`.

    Parameters
    ----------
    probability, divergence, history
        The authors' scripts for GSM8K take 0.6, 0.015 and 2 with LLaDA, 0.9, 0.001 and 2 with
        Dream. Divergences are in nats.

    """

    probability: float = 0.6
    divergence: float = 0.015
    history: int = 2

    def __post_init__(self) -> None:
        _share("stability: probability", self.probability)
        if not (math.isfinite(self.divergence) and self.divergence > 0.0):
            raise InputError(f"stability: divergence must be positive; got {self.divergence}")
        if self.history < 1:
            raise InputError(f"stability: history must be at least 1 step; got {self.history}")


@dataclass(frozen=True, slots=True)
class Sampler:
    """A greedy way to decode a canvas; the same prompt gives the same tokens every time.

    The canvas is cut into blocks that are decoded from left to right, each step seeing all of it.
    A block with n masks is decoded in ``min(steps, n)`` steps, which fill in n / steps positions
    each, the first ones one more where that is not a whole number.

    Parameters
    ----------
    canvas_length
        Tokens to be generated, at least 1.
    block_length
        None for one block. Where it does not divide the canvas, the last block is shorter.
    steps
        Denoising steps of a block; None for one position a step.
    order
        One of :data:`ORDERS`.
    parallel
        What a step fills in beyond its share; it then may need fewer steps than planned.
    progress
        What a halting rule's schedule runs over, see :mod:`stopper.halting`.

    Raises
    ------
    InputError
        If a number or a name is not one of these.

    """

    canvas_length: int = 128
    block_length: int | None = None
    steps: int | None = None
    order: Order = "confidence"
    parallel: Threshold | Stability | None = None
    progress: ProgressScope = "block"

    def __post_init__(self) -> None:
        for name in ("canvas_length", "block_length", "steps"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or value < 1):
                raise InputError(f"sampler: {name} must be at least 1; got {value}")
        if self.block_length is not None and self.block_length > self.canvas_length:
            raise InputError(
                f"sampler: block_length {self.block_length} is longer than the canvas of "
                f"{self.canvas_length}; leave it out for one block"
            )
        if self.order not in ORDERS:
            raise InputError(
                f"sampler: order {self.order!r} is unknown; choose one of {', '.join(ORDERS)}"
            )
        if self.progress not in PROGRESS_SCOPES:
            raise InputError(
                f"sampler: progress {self.progress!r} is unknown; choose one of "
                f"{', '.join(PROGRESS_SCOPES)}"
            )

    @property
    def width(self) -> int:
        """Positions of the longest block."""
        return self.block_length or self.canvas_length

    def blocks(self) -> list[tuple[int, int]]:
        """Return the first position of each block and the one after its last.

        Examples
        --------
        >>> Sampler(canvas_length=10, block_length=4).blocks()
        [(0, 4), (4, 8), (8, 10)]

        """
        starts = range(0, self.canvas_length, self.width)
        return [(start, min(start + self.width, self.canvas_length)) for start in starts]

    def planned(self, masks: int) -> int:
        """Return the steps of a block with so many masks; 0 where there is nothing to fill in."""
        return min(self.steps or masks, masks)

    def spec(self) -> SamplerSpec:
        """Return the settings as an artifact keeps them; progress is told beside them."""
        options: dict[str, Any] = {}
        if isinstance(self.parallel, Threshold):
            options["threshold"] = self.parallel.probability
        elif self.parallel is not None:
            options["klass"] = {
                "probability": self.parallel.probability,
                "divergence": self.parallel.divergence,
                "history": self.parallel.history,
            }
        return SamplerSpec(
            steps=self.steps or self.width,
            block_length=self.width,
            canvas_length=self.canvas_length,
            order=self.order,
            options=options,
        )

    @classmethod
    def from_spec(cls, spec: SamplerSpec, progress: ProgressScope = "block") -> Sampler:
        """Read the settings that `spec` wrote.

        Raises
        ------
        InputError
            If an option or the order is none of this sampler's.

        """
        options = dict(spec.options)
        threshold, klass = options.pop("threshold", None), options.pop("klass", None)
        if options:
            raise InputError(
                f"sampler: options {sorted(options)} are unknown; use threshold or klass"
            )
        parallel: Threshold | Stability | None = None
        try:
            if threshold is not None:
                parallel = Threshold(threshold)  # type: ignore[arg-type]
            elif klass is not None:
                parallel = Stability(**klass)  # type: ignore[arg-type]
        except TypeError:
            raise InputError(f"sampler: options {spec.options} are not of this sampler") from None
        order: Any = spec.order
        return cls(
            spec.canvas_length, spec.block_length, spec.steps, order, parallel, progress=progress
        )


def share(masks: int, steps: int, step: int) -> int:
    """Return how many of a block's masks a step fills in.

    Parameters
    ----------
    masks
        At the block's start.
    steps, step
        Planned, and this one from 0.

    Examples
    --------
    >>> [share(10, 4, step) for step in range(4)]
    [3, 3, 2, 2]

    """
    return masks // steps + (step < masks % steps)


def _share(name: str, value: float) -> None:
    if not 0.0 < value <= 1.0:
        raise InputError(f"{name} must lie in (0, 1]; got {value}")
