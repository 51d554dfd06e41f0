"""The drift monitor over many runs: shifts are caught, calm traffic raises no alarm.

The bars: a shift from 5 to 20 cues is caught in at least 95 % of 40 runs within 1,500 audits; of 40
runs of 3,000 audits in control at most one alarms; and over 300 runs at a risk of exactly alpha no
more than delta + 3 binomial standard errors do. Seeds are fixed.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray
from populations import TEST, RiskCurve, population
from scipy.stats import binom

from calibration.evaluate import threshold_stops
from calibration.losses import bad_cues
from calibration.monitor import Audit, Monitor, Settings, Verdict, audits_of
from calibration.monitor.evidence import evidence, risk_interval
from calibration.monitor.panels import homogeneity
from calibration.profile import Profile, profile_of
from calibration.risk import threshold

ALPHA, N, RUNS, DELTA = 0.1, 500, 40, 0.01
ARTIFACT, LOSS = "0" * 16, "disagree"


def limit_of(run: int, method: str = "ltt") -> float:
    """Calibrate on the run's own 500 traces of 5 cues."""
    worst = population(5).worst(LOSS)
    return threshold(worst[run * N : (run + 1) * N], ALPHA, method)


def profile_for(run: int) -> Profile:
    return profile_of(population(5).pool.take(np.arange(run * N, (run + 1) * N)))


def limit_at_alpha() -> float:
    """The threshold at which the risk of the test traces of 5 cues is alpha, or just below."""
    curve = RiskCurve(population(5).test, LOSS)
    limits = np.quantile(population(5).test.scores, np.linspace(0.5, 1, 5001)).astype(np.float32)
    return float(limits[np.argmax(curve.at(limits) <= ALPHA)])


def draw(cues: int, run: int, count: int, limit: float) -> list[Audit]:
    """Draw audits of other traces than those calibrated on."""
    rows = np.random.default_rng([cues, run]).choice(TEST, size=count, replace=False)
    table = population(cues).test.take(rows)
    made = audits_of(
        table,
        bad_cues(table, LOSS),
        threshold_stops(table, limit),
        artifact=ARTIFACT,
        alpha=ALPHA,
        loss_name=LOSS,
        begin=datetime(2026, 1, 1, tzinfo=UTC),
        request_ids=[f"{cues}-{row}" for row in rows],
    )
    return list(made)


def watch(audits: list[Audit], profile: Profile | None, method: str = "betting") -> Verdict:
    return Monitor(Settings(ARTIFACT, LOSS, method, DELTA), profile).update(audits)


def first_warning(verdict: Verdict) -> float:
    return min((warning.audits for warning in verdict.warnings), default=math.inf)


def assert_rare(count: int, runs: int, level: float = DELTA) -> None:
    assert count / runs <= level + 3 * math.sqrt(level * (1 - level) / runs)


@pytest.mark.parametrize("calm", [0, 600], ids=["from the start", "after 600 good ones"])
def test_a_shift_to_twenty_cues_is_caught_and_warned_of_before(calm: int) -> None:
    alarms, warnings = [], []
    for run in range(RUNS):
        limit = limit_of(run)
        stream = [*draw(5, run, calm, limit), *draw(20, run, 1500, limit)]
        verdict = watch(stream, profile_for(run))
        alarms.append(math.inf if verdict.since is None else verdict.since - calm)
        warnings.append(first_warning(verdict) - calm)
    assert sum(0 < alarm <= 1500 for alarm in alarms) >= 0.95 * RUNS
    assert sum(0 < warning <= 100 for warning in warnings) >= 0.95 * RUNS
    assert np.median(warnings) < np.median(alarms) / 2


def test_mapie_catches_it_too_but_later() -> None:
    ours, theirs = [], []
    for run in range(10):
        stream = draw(20, run, 1500, limit_of(run))
        for found, method in ((ours, "betting"), (theirs, "mapie")):
            since = watch(stream, None, method).since
            found.append(math.inf if since is None else since)
    assert sum(at <= 1500 for at in theirs) >= 9
    assert np.median(theirs) > 1.5 * np.median(ours)


@pytest.mark.parametrize("case", ["risk as calibrated", "risk at alpha"])
def test_calm_traffic_raises_no_alarm_and_few_warnings(case: str) -> None:
    at_alpha = limit_at_alpha()
    assert RiskCurve(population(5).test, LOSS).at(np.float32([at_alpha]))[0] == pytest.approx(
        ALPHA, abs=5e-4
    )
    alarms = warnings = 0
    for run in range(RUNS):
        limit = at_alpha if case == "risk at alpha" else limit_of(run)
        verdict = watch(draw(5, run, 3000, limit), profile_for(run))
        alarms += verdict.alarm
        warnings += bool(verdict.warnings)
    assert alarms <= 1
    assert_rare(warnings, RUNS, 0.05)


def coins(runs: int, count: int, risk: float, seed: int) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random((runs, count)) < risk


def test_at_a_risk_of_exactly_alpha_false_alarms_keep_to_delta() -> None:
    for delta in (DELTA, 0.1):
        alarms = 0
        for losses in coins(300 if delta == DELTA else 150, 2000, ALPHA, seed=7):
            test = evidence("betting", delta)
            for bad in losses.tolist():
                test.update(bad, ALPHA)
                if test.alarming:
                    alarms += 1
                    break
        assert_rare(alarms, 300 if delta == DELTA else 150, delta)


def test_a_fixed_test_at_every_look_raises_false_alarms() -> None:
    """The negative control: the exact binomial test at level delta, asked again and again."""
    losses = coins(300, 3000, ALPHA, seed=7)
    looks = np.arange(1, 3001)
    p_values = binom.sf(losses.cumsum(axis=1) - 1, looks, ALPHA)
    false = int((p_values <= DELTA).any(axis=1).sum())
    assert false / 300 > 5 * DELTA
    with pytest.raises(AssertionError):
        assert_rare(false, 300)


def test_the_interval_holds_at_all_times_also_where_the_risk_moves() -> None:
    """Checked against the mean of the true risks so far, at 60 looks of 300 runs."""
    count, looks = 2000, np.unique(np.geomspace(5, 2000, 60).astype(int))
    for risks in (np.full(count, 0.1), np.linspace(0.02, 0.3, count)):
        means = np.cumsum(risks) / np.arange(1, count + 1)
        drawn = np.random.default_rng(3).random((300, count)) < risks
        left = 0
        for sums in drawn.cumsum(axis=1):
            bounds = [risk_interval(int(sums[n - 1]), int(n)) for n in looks]
            truth = means[looks - 1]
            left += any(not low <= m <= high for (low, high), m in zip(bounds, truth, strict=True))
        assert_rare(left, 300, 0.05)


def test_chi_square_at_every_look_without_spending_warns_of_calm_traffic() -> None:
    """The negative control of the warnings: 5 % at each of 60 blocks of 50 calm requests."""
    false = 0
    for run in range(RUNS):
        reference = profile_for(run).tokens
        rng = np.random.default_rng([9, run])
        tokens = population(5).test.tokens[rng.choice(TEST, size=3000, replace=False)]
        blocks = np.searchsorted(reference.edges, tokens, side="right").reshape(60, 50)
        bins = len(reference.counts)
        counts = (np.bincount(block, minlength=bins) for block in blocks)
        false += any(homogeneity(reference.counts, block)[0] <= 0.05 for block in counts)
    assert false > 0.5 * RUNS
    with pytest.raises(AssertionError):
        assert_rare(false, RUNS, 0.05)
