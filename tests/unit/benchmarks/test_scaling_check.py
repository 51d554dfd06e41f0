"""What the comparison with the real sidecar makes of its measurements; it is not run here."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))

from scaling_check import SIZES, Stamped, costs_of

from adapters.vllm.remote.answers import Answer


def found(
    body: float, event: float, rest: float, step: float = 0.0
) -> dict[str, dict[int, object]]:
    work = {size: body + event * size for size in SIZES}
    return {
        "cpu": {size: spent / 2 for size, spent in work.items()},
        "wall": dict(work),
        "redis": dict.fromkeys(SIZES, step),
        "trips": {size: [spent + rest] * 3 for size, spent in work.items()},
    }


def test_costs_are_read_off_the_measurements() -> None:
    memory, redis = found(2e-3, 1e-4, 5e-4), found(3e-3, 2e-4, 9e-4, step=3e-5)
    costs = costs_of(memory, None, "wall")
    assert (costs.body_s, costs.event_s, costs.way_s) == pytest.approx((2e-3, 1e-4, 5e-4))
    assert costs.redis_s is None
    shared = costs_of(memory, redis, "cpu")
    assert (shared.body_s, shared.event_s) == pytest.approx((1.5e-3, 1e-4))
    assert (shared.redis_s, shared.redis_step_s) == pytest.approx((4e-4, 3e-5))
    assert shared.way_spread(np.random.default_rng(0), 5) == pytest.approx(np.ones(5))


def test_each_answer_is_stamped_when_it_comes() -> None:
    answers = Stamped()
    answers.append(Answer("a", 1, None, "remote_late"))
    answers.extend([Answer("b", 1, None), Answer("c", 1, None)])
    assert [answer.request_id for answer in answers] == ["a", "b", "c"]
    assert answers.times == sorted(answers.times)
    assert len(answers.times) == 3
