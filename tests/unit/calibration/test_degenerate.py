"""Degenerate traces: exact, explained outcomes of calibration and evaluation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from table_makers import trace

from calibration.calibrate import Calibration, calibrate
from calibration.report import Evaluator, Rule
from calibration.risk import allowed_above, minimum_units, threshold
from calibration.simulate import SimulatorSettings, simulate
from calibration.table import CueTable
from probes.errors import InputError, TooFewTraces

TABLE = simulate(SimulatorSettings(400, seed=3))
METHODS = pytest.mark.parametrize("method", ["ltt", "crc"])
CONSTANT = "all 60 cues have the same score, 0.5: it cannot tell good stops from bad ones"
NOBODY = "no calibration cue scores above the threshold: none of these would stop"
FIRST = "bad stops are so rare here that the rule stops at the first cue"


def evaluate(found: Calibration, table: CueTable):
    rule = Rule(
        method=found.method,
        loss=found.loss,
        confidence=found.confidence,
        worst_scores=found.worst_scores,
        good_scores=found.good_scores,
        bad_scores=found.bad_scores,
    )
    return Evaluator(table, rule).at(found.alpha)


def constant(bad: int, n: int = 30) -> CueTable:
    """n traces of two cues that score alike; the first `bad` of them have a bad first cue."""
    return CueTable.from_traces(
        trace(f"t{i}", [0.5, 0.5], correct=[i >= bad, True]) for i in range(n)
    )


@METHODS
def test_a_constant_score_with_bad_cues_stops_nothing(method: str) -> None:
    found = calibrate(constant(9), "wrong", 0.1, method)
    assert found.threshold == 0.5
    assert found.worst_scores.tolist() == [-math.inf] * 21 + [0.5] * 9
    allowed = allowed_above(30, 0.1, method, 0.9)
    tied = f"equal scores: 0 of the {allowed} bad stops that alpha allows are used"
    assert found.notes[:2] == (CONSTANT, NOBODY)
    assert [note[: len(tied)] for note in found.notes[2:]] == ([tied] if allowed else [])
    report = evaluate(found, constant(9))
    assert report.stopped.tokens == report.full.tokens
    assert report.stopped.bad_stop_share == 0


@METHODS
def test_a_constant_score_with_hardly_a_bad_cue_stops_all(method: str) -> None:
    few = allowed_above(60, 0.1, method, 0.9)
    table = constant(few, n=60)
    found = calibrate(table, "wrong", 0.1, method)
    assert found.threshold == -math.inf
    assert FIRST in found.notes
    report = evaluate(found, table)
    assert report.stopped.tokens == 10
    assert report.stopped.bad_stop_share == pytest.approx(few / 60)
    one_more = calibrate(constant(few + 1, n=60), "wrong", 0.1, method)
    assert one_more.threshold == 0.5
    assert NOBODY in one_more.notes


@METHODS
@pytest.mark.parametrize("step", [0.5, 1.0, 4.0])
def test_ties_everywhere_keep_the_promise_and_are_told(method: str, step: float) -> None:
    rough = TABLE.with_scores(np.round(TABLE.scores / np.float32(step)) * np.float32(step))
    found = calibrate(rough, "wrong", 0.1, method)
    allowed = allowed_above(400, 0.1, method, 0.9)
    above = int((found.worst_scores > found.threshold).sum())
    assert found.threshold == threshold(found.worst_scores, 0.1, method)
    assert above <= allowed < int((found.worst_scores >= found.threshold).sum())
    said = [note for note in found.notes if note.startswith("equal scores")]
    assert [f"{above} of the {allowed} bad stops" in note for note in said] == [True] * (
        above < allowed
    )
    share = evaluate(found, rough).stopped.bad_stop_share
    assert share is not None and share <= allowed / 400


@METHODS
def test_distinct_scores_use_all_that_alpha_allows(method: str) -> None:
    found = calibrate(TABLE, "wrong", 0.1, method)
    allowed = allowed_above(400, 0.1, method, 0.9)
    assert (found.worst_scores > found.threshold).sum() == allowed
    assert found.notes == ()


@METHODS
def test_traces_that_are_all_bad_stop_above_nearly_all_or_never(method: str) -> None:
    table = CueTable.from_traces(
        trace(f"t{i}", [float(i)], correct=[False], full_correct=False) for i in range(60)
    )
    with pytest.raises(InputError, match="all 60 cues are bad under the loss 'wrong'"):
        calibrate(table, "wrong", 0.1, method)
    found = calibrate(table, "wrong", 0.1, method, allow_one_class=True)
    allowed = allowed_above(60, 0.1, method, 0.9)
    assert found.threshold == 59 - allowed
    assert "only scores above nearly all of these would stop" in found.notes[0]
    report = evaluate(found, table)
    assert report.stopped.bad_stop_share == pytest.approx(allowed / 60)
    assert report.oracle.tokens == report.full.tokens
    # The same traces harm nobody: where the full trace is wrong, a stop cannot make it worse.
    harmless = calibrate(table, "harm", 0.1, method, allow_one_class=True)
    assert harmless.threshold == -math.inf


@METHODS
def test_traces_that_are_all_good_stop_at_their_first_cue(method: str) -> None:
    table = CueTable.from_traces(trace(f"t{i}", [float(i), 1.0]) for i in range(30))
    with pytest.raises(InputError, match="all 60 cues are good under the loss 'disagree'"):
        calibrate(table, "disagree", 0.1, method)
    found = calibrate(table, "disagree", 0.1, method, allow_one_class=True)
    assert found.threshold == -math.inf
    assert "every trace would be stopped at its first cue" in found.notes[0]
    report = evaluate(found, table)
    assert (report.stopped.tokens, report.stopped.bad_stop_share) == (10, 0)
    assert report.score_auroc is None


@METHODS
@pytest.mark.parametrize("alpha", [0.01, 0.02, 0.05, 0.1])
def test_one_below_the_minimum_is_refused_and_the_minimum_is_not(method: str, alpha: float) -> None:
    needed = minimum_units(method, alpha, 0.9)
    with pytest.raises(TooFewTraces, match=rf"^{needed - 1} calibration .* least {needed}, so 1 m"):
        calibrate(TABLE.take(range(needed - 1)), "wrong", alpha, method)
    found = calibrate(TABLE.take(range(needed)), "wrong", alpha, method)
    assert found.threshold == found.worst_scores.max()
    assert math.isfinite(found.threshold)


def test_evaluation_of_traces_without_any_cue_is_refused() -> None:
    found = calibrate(TABLE, "wrong", 0.1)
    table = CueTable.from_traces(trace(f"t{i}", [], tokens=40) for i in range(5))
    with pytest.raises(InputError, match="none of the 5 traces has a cue"):
        evaluate(found, table)


def test_no_traces_at_all_are_refused() -> None:
    with pytest.raises(TooFewTraces, match="0 calibration traces"):
        calibrate(TABLE.take([]), "wrong", 0.1)
    with pytest.raises(InputError):
        Evaluator(TABLE.take([]), Rule("lynx", "wrong", None, None, None, None)).at(0.1)
