"""The model of remote decisions: by formula where queueing theory has one, else by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from decision_queue import (  # noqa: E402
    Bench,
    Costs,
    Draw,
    Fleet,
    Question,
    Replica,
    Sender,
    exponential,
    fixed,
    measured,
)
from engine_queue import Load, simulate  # noqa: E402

WORK_S = 0.001


def mean_wait(share: float, spread: Draw, arrivals: int = 12_000) -> float:
    """Return the mean wait of bodies that come by a Poisson process, in units of the mean work."""
    bench = Bench(Costs(WORK_S, 0.0, 0.0, spread=spread), seed=1)
    replica = Replica(bench)
    times: list[float] = []

    def body() -> Any:
        begun = bench.env.now
        yield from replica.decide(1)
        times.append(bench.env.now - begun)

    def arrive() -> Any:
        for gap in bench.rng.exponential(WORK_S / share, arrivals):
            yield bench.env.timeout(gap)
            bench.env.process(body())

    bench.env.process(arrive())
    bench.env.run()
    assert len(times) == arrivals
    return float(np.mean(times)) / WORK_S - 1


def test_exponential_work_waits_as_in_m_m_1() -> None:
    share = 0.5
    assert mean_wait(share, exponential) == pytest.approx(share / (1 - share), rel=0.1)


def test_fixed_work_waits_half_as_long_as_in_m_d_1() -> None:
    share = 0.5
    assert mean_wait(share, fixed) == pytest.approx(share / (1 - share) / 2, rel=0.1)


def test_measured_work_waits_as_pollaczek_and_khinchine_say() -> None:
    samples = np.array([1.0, 1.0, 1.0, 5.0])
    scaled = samples / samples.mean()
    expected = 0.5 / (1 - 0.5) * np.mean(scaled**2) / 2
    assert mean_wait(0.5, measured(samples)) == pytest.approx(expected, rel=0.1)


def one_sender(costs: Costs, fleet: Fleet) -> tuple[Bench, Sender]:
    bench = Bench(costs, seed=0)
    replica = Replica(bench)
    return bench, Sender(bench, fleet, lambda: replica)


def ask(bench: Bench, sender: Sender, *whens: float, deadline_s: float = 0.1) -> None:
    def offer() -> Any:
        for when in whens:
            yield bench.env.timeout(when - bench.env.now)
            sender.offer(Question(0, 0, 1, False, when, when + deadline_s))

    bench.env.process(offer())
    bench.env.run(2.0)


def test_what_comes_while_a_body_is_under_way_is_the_next_body() -> None:
    bench, sender = one_sender(Costs(0.010, 0.001, 0.002), Fleet())
    ask(bench, sender, 0.001, 0.005, 0.006)
    assert bench.outcome.bodies == [1, 2]
    # The first: connect 2 ms, there and back 2 ms, work 11 ms. The others wait for it, then 14 ms.
    assert bench.outcome.latencies == pytest.approx([0.015, 0.025, 0.024])
    assert len(sender.answers) == 3


def test_redis_adds_its_way_and_its_work() -> None:
    bench, sender = one_sender(Costs(0.010, 0.001, 0.002, 0.004, 0.003), Fleet())
    ask(bench, sender, 0.001)
    assert bench.outcome.latencies == pytest.approx([0.015 + 0.004 + 0.003])


def test_an_answer_after_its_own_deadline_is_late_and_one_in_the_same_body_is_not() -> None:
    bench, sender = one_sender(Costs(0.030, 0.0, 0.0), Fleet())
    ask(bench, sender, 0.000, 0.001, 0.029, deadline_s=0.05)
    assert bench.outcome.bodies == [1, 2]
    assert bench.outcome.causes == {"answered_late": 1}
    assert bench.outcome.cues == 3
    assert bench.outcome.late == pytest.approx(1 / 3)


def test_after_three_bodies_without_an_answer_nothing_is_sent_for_a_while() -> None:
    bench, sender = one_sender(Costs(10.0, 0.0, 0.0), Fleet())
    ask(bench, sender, 0.0, 0.2, 0.4, 0.6, 0.61)
    assert bench.outcome.causes == {"remote_late": 3, "remote_breaker_open": 2}
    assert bench.outcome.quantile(0.5) == np.inf


def test_a_sidecar_farther_away_than_the_deadline_is_never_reached() -> None:
    bench, sender = one_sender(Costs(0.001, 0.0, 0.05), Fleet())
    ask(bench, sender, 0.0, 0.5, deadline_s=0.04)
    assert bench.outcome.causes == {"remote_late": 2}
    assert not bench.outcome.bodies


def test_a_full_queue_takes_no_more() -> None:
    bench, sender = one_sender(Costs(0.01, 0.0, 0.0), Fleet(capacity=2))
    ask(bench, sender, 0.0, 0.001, 0.002, 0.003)
    assert bench.outcome.causes == {"remote_queue_full": 1}


@pytest.mark.parametrize("spread", [fixed, exponential])
def test_unloaded_engines_wait_for_way_and_work_and_stop_one_token_late(spread: Draw) -> None:
    load = Load(2, running=8, step_s=0.05)
    costs = Costs(1e-4, 1e-5, 1e-3, spread=spread)
    found = simulate(load, costs, Fleet(), seconds=60.0, seed=3)
    assert found.cues == pytest.approx(60 * load.cues_per_s, rel=0.15)
    assert np.mean(found.latencies) == pytest.approx(1.12e-3, rel=0.05)
    assert set(found.lags) == {1}
    # Where nothing is late the first passing cue ends the thinking, one token later.
    assert set(found.late_tokens) == {1}
    assert found.late == 0


def test_late_decisions_cost_what_the_model_thinks_on() -> None:
    load = Load(1, running=64)
    found = simulate(load, Costs(1.0, 0.0, 0.0), Fleet(deadline_s=0.01), seconds=60.0)
    assert found.late == 1
    assert not found.lags
    # Nobody is stopped: what would have been spared is all lost.
    assert found.late_tokens == found.spared
    assert np.mean(found.spared) > 100


def test_a_second_replica_takes_half_of_the_load() -> None:
    load, costs = Load(8, step_s=0.01), Costs(1.2e-3, 0.0, 0.0)
    one = simulate(load, costs, Fleet(1), seconds=1.0)
    two = simulate(load, costs, Fleet(2), seconds=1.0)
    assert two.quantile(0.99) < one.quantile(0.99)


def test_the_same_seed_gives_the_same_figures() -> None:
    costs = Costs(2e-3, 0.0, 1e-3, spread=exponential)
    first, again, other = (
        simulate(Load(4), costs, Fleet(2, placement="chance"), seconds=1.0, seed=seed)
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_scaling_prints_its_tables_and_draws(tmp_path: Path) -> None:
    file, picture = tmp_path / "scaling.json", tmp_path / "scaling.svg"
    command = [sys.executable, str(BENCHMARKS / "scaling.py"), "--engines", "2", "4"]
    command += ["--replicas", "1", "2", "--far-engines", "2", "--seconds", "0.2"]
    command += ["--json", str(file), "--plot", str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "linear probe" in done.stdout
    assert "one replica, by distance" in done.stdout
    report = json.loads(file.read_text())
    assert len(report["near"]) == 4
    assert len(report["far"]) == 9
    assert "<svg" in picture.read_text()
