"""The gate before a failing server, on a clock of its own."""

from __future__ import annotations

import pytest
from redis.backoff import ConstantBackoff

from stopper.service.store import StoreUnavailable
from stopper.service.store.gate import Gate


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock) -> Gate:
    return Gate(0.25, ConstantBackoff(1.0), clock)


def shut(gate: Gate) -> bool:
    try:
        gate.enter()
    except StoreUnavailable as error:
        assert "no route" in str(error)
        return True
    return False


def test_all_pass_while_it_works(gate: Gate) -> None:
    assert not any(shut(gate) for _ in range(5))


def test_a_failure_shuts_it_for_a_while(gate: Gate, clock: Clock) -> None:
    gate.failed(gate.enter(), "no route")
    assert shut(gate)
    clock.now = 0.99
    assert shut(gate)
    clock.now = 1.0
    assert not shut(gate)


def test_one_at_a_time_tries_again(gate: Gate, clock: Clock) -> None:
    gate.failed(gate.enter(), "no route")
    clock.now = 1.0
    ticket = gate.enter()
    assert shut(gate)
    gate.failed(ticket, "no route")
    clock.now = 1.99
    assert shut(gate)
    clock.now = 2.0
    assert not shut(gate)


def test_a_try_that_never_ends_does_not_keep_it_shut(gate: Gate, clock: Clock) -> None:
    gate.failed(gate.enter(), "no route")
    clock.now = 1.0
    gate.enter()
    clock.now = 1.25
    assert not shut(gate)


def test_success_opens_it(gate: Gate, clock: Clock) -> None:
    gate.failed(gate.enter(), "no route")
    clock.now = 1.0
    gate.enter()
    gate.worked()
    assert not any(shut(gate) for _ in range(5))


def test_calls_that_fail_together_count_once(clock: Clock) -> None:
    gate = Gate(0.25, clock=clock)
    tickets = [gate.enter() for _ in range(50)]
    for ticket in tickets:
        gate.failed(ticket, "no route")
    clock.now = 0.2
    assert not shut(gate)


def test_the_pause_grows_up_to_a_second_and_no_further(clock: Clock) -> None:
    gate = Gate(0.25, clock=clock)
    for _ in range(1500):  # two to the power of it is no float any more
        gate.failed(gate.enter(), "no route")
        clock.now += 1.0
    gate.failed(gate.enter(), "no route")
    clock.now += 0.49
    assert shut(gate)
