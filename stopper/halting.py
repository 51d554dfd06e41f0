"""When to halt a denoising: a signal of the margins against a schedule over progress. Pure.

The score of a denoising step is its signal (say, the mean margin of what is still masked) minus the
schedule's threshold at that progress; the step halts where the score exceeds a *level*. Level 0 is
the schedule as it stands. A calibrated level shifts the whole schedule, so that one number decides
and its promise is that of `calibration/risk.py`.

Halting fills all that is still masked with its argmax. The pass that halts has been run and counts:
halting at step i (from 0) costs i + 1 passes.

Progress
--------
At step i of T, progress is ``i / (T - 1)``, and 1 where T is 1; it is rounded to float32, the form
in which it is recorded. T is the number of steps *planned*, also where a sampler may finish sooner.
The paper decodes one canvas and leaves open what progress is when a canvas is cut into blocks that
are decoded one after another. Here:

* ``block`` (the default): i and T count the steps of the block being decoded. Each block starts at
  the strict end of the schedule, and halting it ends that block only.
* ``canvas``: i and T count the steps of the whole request, all its blocks together. Early blocks
  are then halted later than late ones. A halt still ends its block only; i goes on where the next
  block would have started, as if no step had been saved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from probes.margins import REGIONS, SIGNALS, Aggregate, Region
from stopper.errors import InputError
from stopper.schedule import Kind, Schedule

ProgressScope = Literal["block", "canvas"]

PROGRESS_SCOPES: tuple[ProgressScope, ...] = get_args(ProgressScope)
"""Over what progress is counted, see above."""

NO_GUARANTEE = "hand-picked thresholds: no guarantee"
"""What is said of every rule that was not calibrated."""


def progress_at(step: int, steps: int) -> float:
    """Return the progress of one denoising step, a float32 value in [0, 1].

    Parameters
    ----------
    step
        From 0.
    steps
        How many are planned, of the block or of the canvas.

    Raises
    ------
    InputError
        If there is no such step.

    Examples
    --------
    >>> [progress_at(step, 5) for step in range(5)], progress_at(0, 1)
    ([0.0, 0.25, 0.5, 0.75, 1.0], 1.0)

    """
    if steps < 1 or not 0 <= step < steps:
        raise InputError(
            f"step {step} of {steps} denoising steps does not exist; steps are counted from 0 "
            "and there is at least one"
        )
    return float(np.float32(step / (steps - 1))) if steps > 1 else 1.0


@dataclass(frozen=True, slots=True)
class HaltingRule:
    """Halt where a signal exceeds the schedule by more than a level.

    Parameters
    ----------
    schedule
        The threshold over progress.
    aggregate, region
        What becomes of the margins, see :func:`probes.margins.aggregate`. The paper's text says
        the full span, its published setting takes what is still masked.
    stable_argmax
        Whether a step may halt only if no masked position's argmax differs from the step before,
        which a block's first step never fulfils. The paper's code has this gate, its text does not.

    Raises
    ------
    InputError
        If a name is unknown.

    """

    schedule: Schedule = field(default_factory=Schedule)
    aggregate: Aggregate = "mean"
    region: Region = "masked"
    stable_argmax: bool = False

    def __post_init__(self) -> None:
        if self.aggregate not in SIGNALS:
            raise InputError(
                f"aggregate {self.aggregate!r} is unknown; choose one of {', '.join(SIGNALS)}"
            )
        if self.region not in REGIONS:
            raise InputError(
                f"region {self.region!r} is unknown; choose one of {', '.join(REGIONS)}"
            )

    @property
    def signal(self) -> str:
        """Name of the signal it reads, for example "masked.mean"."""
        return f"{self.region}.{self.aggregate}"

    def threshold(self, progress: float) -> np.float32:
        """Return the schedule's threshold at a progress rounded to float32.

        Raises
        ------
        InputError
            If the progress lies outside [0, 1].

        """
        if not 0.0 <= progress <= 1.0:
            raise InputError(f"progress must lie in [0, 1]; got {progress}")
        return self.schedule.threshold(float(np.float32(progress)))

    def thresholds(self, steps: int) -> npt.NDArray[np.float32]:
        """Return the threshold of every step of `steps`, for a device to index.

        Returns
        -------
        float32 [steps]

        Raises
        ------
        InputError
            If `steps` is below 1.

        """
        if steps < 1:
            raise InputError(f"there is at least one denoising step; got {steps}")
        found = [self.threshold(progress_at(step, steps)) for step in range(steps)]
        return np.array(found, dtype=np.float32)

    def score(self, signal: float | np.float32, progress: float, changed: bool) -> np.float32:
        """Return the score of one step.

        Parameters
        ----------
        signal
            The aggregated margin; rounded to float32.
        progress
            See :func:`progress_at`.
        changed
            Whether a masked position's argmax differs from the step before; True at a block's
            first step. Without ``stable_argmax`` it is ignored.

        Returns
        -------
        float32
            Signal minus threshold; -inf, which never halts, where the gate forbids it or the
            difference is not finite.

        """
        threshold = self.threshold(progress)
        with np.errstate(over="ignore", invalid="ignore"):
            score = np.float32(np.float32(signal) - threshold)
        if (self.stable_argmax and changed) or not np.isfinite(score):
            return np.float32(-np.inf)
        return score

    def scores(
        self,
        signal: npt.NDArray[np.float32],
        progress: npt.NDArray[np.float32],
        changed: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.float32]:
        """Return the scores of many steps, each as :meth:`score` gives it.

        Parameters
        ----------
        signal, progress
            float32 [n].
        changed
            bool [n].

        Returns
        -------
        float32 [n]

        """
        values, places = np.unique(np.asarray(progress, dtype=np.float32), return_inverse=True)
        table = np.array([self.threshold(float(value)) for value in values], dtype=np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            score = np.asarray(signal, dtype=np.float32) - table[places]
        closed = ~np.isfinite(score)
        if self.stable_argmax:
            closed |= changed
        return np.where(closed, np.float32(-np.inf), score)

    def halts(
        self, signal: float | np.float32, progress: float, changed: bool, level: float = 0.0
    ) -> bool:
        """Say whether a step halts: its score is above float32(level), strictly."""
        return bool(self.score(signal, progress, changed) > np.float32(level))

    def to_json(self) -> dict[str, Any]:
        """Return the rule as one flat object: kind, high, low, rate and the rest."""
        return {
            **asdict(self.schedule),
            "aggregate": self.aggregate,
            "region": self.region,
            "stable_argmax": self.stable_argmax,
        }

    @classmethod
    def from_json(cls, fields: object) -> HaltingRule:
        """Read a rule from an object as :meth:`to_json` gives it.

        Parameters
        ----------
        fields
            May also name a ``preset`` (see :data:`PRESETS`), whose values hold where a field is
            not given. Without one, the defaults of :class:`stopper.schedule.Schedule` and of this
            class do.

        Raises
        ------
        InputError
            If a field is unknown, of the wrong type or out of its range.

        """
        if not isinstance(fields, Mapping):
            raise InputError(f"a halting rule is an object of fields; got {fields!r}")
        given = dict(fields)
        base = preset(given.pop("preset")) if "preset" in given else cls()
        known = base.to_json()
        for name, value in given.items():
            if name not in known:
                raise InputError(
                    f"halting rule: field {name!r} is unknown; use preset, {', '.join(known)}"
                )
            known[name] = _typed(name, value, known[name])
        shape = {name: known.pop(name) for name in ("kind", "high", "low", "rate")}
        return cls(Schedule(**shape), **known)


def _typed(name: str, value: object, like: object) -> object:
    """Check a field's type by the value it replaces; whole numbers are numbers too."""
    if isinstance(like, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 2**53 else math.inf
    if type(value) is not type(like):
        kinds = {float: "a number", bool: "true or false", str: "a string"}
        raise InputError(f"halting rule: {name} must be {kinds[type(like)]}; got {value!r}")
    return value


def _presets() -> dict[str, HaltingRule]:
    kinds: dict[str, tuple[Kind, float]] = {"linear": ("linear", 16.0), "cosine": ("cosine", 16.0)}
    kinds |= {f"exp-{rate}": ("exponential", float(rate)) for rate in (2, 4, 8, 16)}
    found = {}
    for name, (kind, rate) in kinds.items():
        found[f"sched-{name}"] = HaltingRule(Schedule(kind, 7.5, 2.5, rate))
        found[f"sched-{name}-aggressive"] = HaltingRule(Schedule(kind, 7.5, 0.0, rate))
    found["prophet"] = HaltingRule(Schedule("thirds", 7.5, 2.5))
    return found


PRESETS: dict[str, HaltingRule] = _presets()
"""The papers' settings by name, from 7.5 to 2.5 or, aggressive, to 0. All :data:`NO_GUARANTEE`."""


def preset(name: object) -> HaltingRule:
    """Return a setting of the papers; it keeps no promise.

    Raises
    ------
    InputError
        If there is none of that name.

    """
    if not isinstance(name, str) or name not in PRESETS:
        raise InputError(f"preset {name!r} is unknown; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
