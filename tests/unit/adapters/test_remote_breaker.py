"""When the sidecar is left alone, and for how long."""

from __future__ import annotations

import pytest

from adapters.vllm.remote.breaker import Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_opens_after_failures_in_a_row_only() -> None:
    clock = Clock()
    breaker = Breaker(failures=3, clock=clock)
    for _ in range(5):
        assert [breaker.failed(), breaker.failed()] == [0, 0]
        assert not breaker.succeeded()
    assert breaker.closed
    assert [breaker.failed() > 0 for _ in range(3)] == [False, False, True]
    assert not breaker.closed


def test_pauses_double_up_to_a_bound_and_one_failure_is_enough_after_a_pause() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, first_s=1, longest_s=10, clock=clock)
    for nominal in (1, 2, 4, 8, 10, 10):
        pause = breaker.failed()
        assert 0.8 * nominal <= pause <= nominal
        clock.now += 0.99 * pause
        assert not breaker.closed
        clock.now += 0.02 * pause
        assert breaker.closed


def test_an_answer_makes_it_as_new() -> None:
    clock = Clock()
    breaker = Breaker(failures=2, clock=clock)
    breaker.failed()
    breaker.failed()
    clock.now += 60
    assert breaker.succeeded()
    assert not breaker.succeeded()
    assert breaker.failed() == 0
    assert breaker.failed() == pytest.approx(0.9, abs=0.1)
