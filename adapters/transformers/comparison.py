"""The same prompts decoded in several ways: what each costs, and what becomes of the answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from adapters.transformers.baselines import FULL, Method
from adapters.transformers.generation import decode
from adapters.transformers.judges import Judge, TokenJudge
from adapters.transformers.model import DiffusionLM
from adapters.transformers.requests import Decoded, Request
from adapters.transformers.sampler import Sampler
from stopper.errors import InputError

GAMMA = 4
"""How hard the quality-penalised speed-up punishes lost quality (SchED, arXiv 2512.02892)."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One method on all prompts. Speed-ups and ratios are against the full decode of the same run.

    Attributes
    ----------
    name, promise
        Of the method.
    n
        Prompts.
    steps
        Forward passes of all prompts together, each row of a batch counted for itself.
    seconds
        Wall-clock for all prompts, the fastest of the repeats.
    step_speedup, wall_speedup
        Of the full decode's steps and seconds to these.
    agreement, disagreements
        Share and number of prompts with the full decode's answer, and without.
    accuracy
        Share of right answers among the prompts that have a gold one; None if none has.
    step_qps, wall_qps
        ``speedup * (accuracy / full accuracy) ** 4``; None where accuracies are unknown, or the
        full decode gets nothing right.

    """

    name: str
    promise: str
    n: int
    steps: int
    seconds: float
    step_speedup: float
    wall_speedup: float
    agreement: float
    disagreements: int
    accuracy: float | None
    step_qps: float | None
    wall_qps: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the figures as one flat object."""
        return asdict(self)


def compare(
    model: DiffusionLM,
    requests: Sequence[Request],
    sampler: Sampler,
    methods: Sequence[Method],
    judge: Judge | None = None,
    *,
    batch_size: int = 16,
    repeats: int = 1,
) -> list[Figures]:
    """Decode all prompts by the full decode and by each method, and compare.

    Parameters
    ----------
    model, requests, sampler, batch_size
        See :func:`adapters.transformers.generation.decode`.
    methods
        See :mod:`adapters.transformers.baselines`. The full decode is always run, and comes first.
    judge
        What the same answer is; None compares tokens up to the first end token.
    repeats
        How often everything is timed. All methods take turns, so that a busy machine is busy for
        all of them.

    Raises
    ------
    InputError
        If there is nothing to decode, or two methods have one name.

    """
    plan = [FULL, *(method for method in methods if method != FULL)]
    if not requests or repeats < 1:
        raise InputError("nothing to compare; give at least one prompt and one repeat")
    if len({method.name for method in plan}) < len(plan):
        raise InputError("two methods have one name; give each its own")
    judge = TokenJudge(model.end_ids) if judge is None else judge
    decode(model, requests[:batch_size], sampler, batch_size=batch_size)  # warms the machine up
    seconds = dict.fromkeys((method.name for method in plan), float("inf"))
    outputs: dict[str, list[Decoded]] = {}
    for _ in range(repeats):
        for method in plan:
            start = time.perf_counter()
            outputs[method.name] = decode(
                model,
                requests,
                method.over(sampler),
                rule=method.rule,
                level=method.level,
                batch_size=batch_size,
            )
            taken = time.perf_counter() - start
            seconds[method.name] = min(seconds[method.name], taken)
    full = outputs[FULL.name]
    return [
        _figures(method, requests, judge, outputs[method.name], full, seconds) for method in plan
    ]


def _figures(
    method: Method,
    requests: Sequence[Request],
    judge: Judge,
    found: Sequence[Decoded],
    full: Sequence[Decoded],
    seconds: dict[str, float],
) -> Figures:
    same = [judge.same(a.tokens, b.tokens) for a, b in zip(found, full, strict=True)]
    steps = sum(result.passes for result in found)
    base_steps = sum(result.passes for result in full)
    accuracy, base = _accuracy(judge, requests, found), _accuracy(judge, requests, full)
    by_steps = base_steps / steps if steps else 1.0
    by_wall = seconds[FULL.name] / seconds[method.name]
    quality = (accuracy / base) ** GAMMA if accuracy is not None and base else None
    return Figures(
        name=method.name,
        promise=method.promise,
        n=len(found),
        steps=steps,
        seconds=seconds[method.name],
        step_speedup=by_steps,
        wall_speedup=by_wall,
        agreement=sum(same) / len(same),
        disagreements=len(same) - sum(same),
        accuracy=accuracy,
        step_qps=None if quality is None else by_steps * quality,
        wall_qps=None if quality is None else by_wall * quality,
    )


def _accuracy(judge: Judge, requests: Sequence[Request], found: Sequence[Decoded]) -> float | None:
    right = [
        judge.right(result.tokens, request.gold)
        for result, request in zip(found, requests, strict=True)
        if request.gold is not None
    ]
    known = [one for one in right if one is not None]
    return sum(known) / len(known) if known else None
