"""The promise of halting rules, over repeated draws of both splits; and what must break it.

Each repetition draws prompts to choose a shape on and others to find its level on, goes through
all of `calibrate_halting`, and is judged on 10,000 further decodes: their share of bad halts is the
risk of that calibration. The bars are those of bars.py, with 200 repetitions (100 of MAPIE's).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest
from bars import SIGMAS, most_exceeding

from calibration.denoising import DenoisingTable, replay, worst_scores
from calibration.denoising_simulation import DenoisingSettings, simulate_denoising
from calibration.risk import threshold
from stopper.denoising_calibration import Terms, calibrate_halting
from stopper.errors import InputError
from stopper.halting import PRESETS, HaltingRule
from stopper.halting_shapes import grid, scores_of

TEST, CONFIDENCE = 10_000, 0.9
SELECT, CALIBRATE = 60, 120
SIGNALS = ("masked.quantile", "masked.min", "span.quantile")


@lru_cache(maxsize=8)
def decodes(traces: int, seed: int, blocks: int = 1) -> DenoisingTable:
    return simulate_denoising(DenoisingSettings(traces, steps=10, blocks=blocks, seed=seed))


@lru_cache(maxsize=1)
def shapes() -> tuple[HaltingRule, ...]:
    every = grid(decodes(400, 99), kinds=("linear",), gates=(False, True))
    return tuple(rule for rule in every if rule.signal in SIGNALS)[::6]


def sets(
    repetitions: int, blocks: int = 1, calibrate: int = CALIBRATE
) -> list[tuple[DenoisingTable, DenoisingTable]]:
    """Disjoint pairs of splits: independent draws."""
    size = SELECT + calibrate
    pool = decodes(repetitions * size, 3, blocks)
    rows = np.arange(len(pool)).reshape(repetitions, size)
    return [(pool.select(row[:SELECT]), pool.select(row[SELECT:])) for row in rows]


def risk(rule: HaltingRule, level: float, blocks: int = 1) -> float:
    table = decodes(TEST, 4, blocks)
    return float((~replay(scores_of(rule, table), level, table).agree).mean())


def calibrated_risks(terms: Terms, blocks: int = 1) -> np.ndarray:
    found = []
    for select, calibrate in sets(200, blocks):
        made = calibrate_halting(select, calibrate, terms, shapes())
        found.append(risk(made.rule, made.level, blocks))
    return np.array(found)


def assert_holds(risks: np.ndarray, alpha: float) -> None:
    """The bar of what holds with confidence: few calibrations exceed alpha."""
    assert (risks > alpha).sum() <= most_exceeding(len(risks), 1 - CONFIDENCE)


def assert_holds_on_average(risks: np.ndarray, alpha: float) -> None:
    noise = math.sqrt(risks.var(ddof=1) / len(risks) + alpha * (1 - alpha) / TEST)
    assert risks.mean() <= alpha + SIGMAS * noise


@pytest.mark.parametrize("alpha", [0.02, 0.1, 0.2])
def test_ltt_keeps_alpha_in_nine_of_ten_calibrations(alpha: float) -> None:
    risks = calibrated_risks(Terms(alpha, "ltt", CONFIDENCE))
    assert_holds(risks, alpha)
    assert risks.mean() > alpha / 4  # it does halt, and not only where nothing can go wrong


@pytest.mark.parametrize("alpha", [0.02, 0.1, 0.2])
def test_crc_keeps_alpha_on_average(alpha: float) -> None:
    risks = calibrated_risks(Terms(alpha, "crc"))
    assert_holds_on_average(risks, alpha)
    assert risks.mean() > alpha / 2


@pytest.mark.parametrize("method", ["ltt", "crc"])
def test_the_promise_holds_for_requests_of_several_blocks(method: str) -> None:
    risks = calibrated_risks(Terms(0.1, method, CONFIDENCE), blocks=3)  # type: ignore[arg-type]
    bar = assert_holds if method == "ltt" else assert_holds_on_average
    bar(risks, 0.1)


@pytest.mark.parametrize("correction", ["split_fixed_sequence", "bonferroni_holm"])
def test_mapie_keeps_alpha_with_the_confidence(correction: str) -> None:
    terms = Terms(0.1, "mapie", CONFIDENCE, correction)  # type: ignore[arg-type]
    found = []
    for select, calibrate in sets(100, calibrate=240):
        try:
            made = calibrate_halting(select, calibrate, terms, shapes()[:4])
        except InputError:  # nothing could be certified: nothing is ever halted
            found.append(0.0)
        else:
            found.append(risk(made.rule, made.level))
    risks = np.array(found)
    assert_holds(risks, 0.1)
    assert risks.mean() > 0.02
    assert (risks > 0).sum() >= 80


def snooped_risks(alpha: float, repetitions: int = 200) -> np.ndarray:
    """Choose shape and level on the same prompts, by an empirical risk of at most alpha."""
    found = []
    for select, calibrate in sets(repetitions):
        data = DenoisingTable.concat([select, calibrate]).select(range(SELECT))
        best = (math.inf, shapes()[0], math.inf)
        for rule in shapes():
            scores = scores_of(rule, data)
            worst = np.sort(worst_scores(scores, data))
            level = float(worst[len(worst) - 1 - math.floor(alpha * len(worst))])
            steps = float(replay(scores, level, data).steps.mean())
            best = min(best, (steps, rule, level), key=lambda one: one[0])
        found.append(risk(best[1], best[2]))
    return np.array(found)


@pytest.mark.parametrize("alpha", [0.05, 0.1])
def test_choosing_and_measuring_on_the_same_prompts_fails_both_bars(alpha: float) -> None:
    """The negative control: if this ever passes, the tests above prove nothing."""
    risks = snooped_risks(alpha)
    for bar in (assert_holds, assert_holds_on_average):
        with pytest.raises(AssertionError):
            bar(risks, alpha)
    assert (risks > alpha).mean() > 0.6


@pytest.mark.parametrize("name", ["prophet", "sched-linear", "sched-exp-16"])
def test_the_papers_settings_keep_no_alpha(name: str) -> None:
    assert risk(PRESETS[name], 0.0) > 0.2


def test_one_rank_lower_fails_the_bar() -> None:
    """The power of these tests: the exact level is not merely one of many that would do."""
    alpha, rule = 0.1, shapes()[0]
    found = []
    for _, calibrate in sets(200):
        worst = np.sort(worst_scores(scores_of(rule, calibrate), calibrate))
        level = threshold(worst, alpha, "ltt", CONFIDENCE)
        lower = worst[worst < np.float32(level)]
        found.append(risk(rule, float(lower[-3])))
    with pytest.raises(AssertionError):
        assert_holds(np.array(found), alpha)
