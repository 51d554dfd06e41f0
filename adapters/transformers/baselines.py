"""Ways to decode, by name: the full decode and what is published to shorten it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from adapters.transformers.sampler import Sampler, Stability, Threshold
from stopper.errors import InputError
from stopper.halting import NO_GUARANTEE, PRESETS, HaltingRule


@dataclass(frozen=True, slots=True)
class Method:
    """A way to decode, laid over any sampler.

    Attributes
    ----------
    name, meaning
        For tables.
    parallel
        Put in the sampler's place for it, unless None.
    rule, level
        When blocks are halted, see :func:`adapters.transformers.generation.decode`.
    promise
        What is guaranteed, in words.

    """

    name: str
    meaning: str
    parallel: Threshold | Stability | None = None
    rule: HaltingRule | None = None
    level: float = 0.0
    promise: str = NO_GUARANTEE

    def over(self, sampler: Sampler) -> Sampler:
        """Return the sampler that this method decodes with."""
        return sampler if self.parallel is None else replace(sampler, parallel=self.parallel)


FULL = Method("full", "all steps", promise="the reference")

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        FULL,
        *(
            Method(name, f"halts at the published thresholds of {name}", rule=rule)
            for name, rule in PRESETS.items()
        ),
        Method("fast-dllm", "fills in all above probability 0.9", Threshold(0.9)),
        Method("klass", "fills in what is stable, as published for LLaDA", Stability()),
        Method(
            "klass-dream",
            "fills in what is stable, as published for Dream",
            Stability(probability=0.9, divergence=0.001),
        ),
    )
}
"""All that need no calibration. Ours joins them as a Method with its rule, level and promise."""


def named(names: Sequence[str]) -> list[Method]:
    """Look methods up.

    Raises
    ------
    InputError
        If there is none of a name.

    """
    for name in names:
        if name not in METHODS:
            raise InputError(f"method {name!r} is unknown; choose from {', '.join(METHODS)}")
    return [METHODS[name] for name in names]
