import json
import math

import numpy as np
import pytest
from table_makers import trace

from calibration.calibrate import calibrate
from calibration.evaluate import replay, threshold_stops
from calibration.losses import bad_cues
from calibration.report import Evaluator, Rule
from calibration.risk import threshold
from calibration.simulate import SimulatorSettings, simulate
from probes.errors import InputError, TooFewTraces

TRAIN = calibrate(simulate(SimulatorSettings(200, seed=1)), "wrong", 0.1)
TEST = simulate(SimulatorSettings(400, seed=2))


def rule(method: str = "ltt", **changes: object) -> Rule:
    fields = {
        "method": method,
        "loss": "wrong",
        "confidence": 0.9 if method == "ltt" else None,
        "worst_scores": None if method == "lynx" else TRAIN.worst_scores,
        "good_scores": TRAIN.good_scores,
        "bad_scores": TRAIN.bad_scores,
    }
    return Rule(**(fields | changes))


@pytest.mark.parametrize("method", ["ltt", "crc"])
def test_any_alpha_is_answered_without_calibrating_again(method: str) -> None:
    evaluator = Evaluator(TEST, rule(method))
    for alpha in (0.07, 0.1, 0.31):
        limit = threshold(TRAIN.worst_scores, alpha, method, 0.9)
        by_hand = replay("", TEST, bad_cues(TEST, "wrong"), threshold_stops(TEST, limit))
        found = evaluator.at(alpha)
        assert found.stopped.threshold == limit
        assert found.stopped.tokens == by_hand.tokens
        assert found.stopped.bad_stops == by_hand.bad_stops
        assert found.budget.tokens == pytest.approx(found.stopped.tokens)
        assert found.oracle.bad_stops == found.full.bad_stops == 0
        assert found.oracle.tokens < found.full.tokens


def test_the_json_has_the_agreed_keys_and_is_standard() -> None:
    report = Evaluator(TEST, rule()).at(0.1).to_json()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    agreed = {
        "alpha", "confidence", "n_test", "full", "stopped", "bad_stops", "bad_stop_share",
        "bad_stop_interval", "oracle_tokens",
    }  # fmt: skip
    assert agreed <= report.keys()
    assert report["full"].keys() == report["stopped"].keys() == {"accuracy", "tokens"}
    assert report["n_test"] == 400
    assert isinstance(report["bad_stops"], int)
    low, high = report["bad_stop_interval"]
    assert low < report["bad_stop_share"] == report["bad_stops"] / 400 < high


def test_the_baselines_are_there_and_are_looser() -> None:
    found = Evaluator(TEST, rule()).at(0.1)
    assert found.lynx is not None and found.mapie is not None
    assert found.lynx.bad_stops > found.stopped.bad_stops
    names = [row.rule for row in found.rows]
    assert names == [
        "full trace", "stopper (ltt)", "token budget", "LYNX per cue", "MAPIE per cue", "oracle"
    ]  # fmt: skip


def test_without_cue_scores_there_are_no_baselines() -> None:
    found = Evaluator(TEST, rule(good_scores=None, bad_scores=None)).at(0.1)
    assert found.lynx is None and found.mapie is None
    assert found.to_json()["lynx"] is None
    with pytest.raises(InputError, match="calibrate it again"):
        rule("lynx", good_scores=None).threshold(0.1)
    with pytest.raises(InputError, match="calibrate it again"):
        rule(worst_scores=None).threshold(0.1)


def test_a_lynx_artifact_is_its_own_baseline() -> None:
    found = Evaluator(TEST, rule("lynx")).at(0.1)
    assert found.lynx is None
    assert found.stopped.rule == "LYNX per cue"
    assert found.stopped.threshold == rule().lynx(0.1)


def test_an_alpha_that_the_calibration_cannot_carry_is_refused() -> None:
    assert not rule().carries(0.01) and rule().carries(0.05) and rule("lynx").carries(0.01)
    with pytest.raises(TooFewTraces, match="30 more"):
        Evaluator(TEST, rule()).at(0.01)
    with pytest.raises(InputError, match="alpha"):
        Evaluator(TEST, rule()).at(0.0)


def test_unknown_accuracies_are_null_not_wrong() -> None:
    unlabelled = [
        trace(f"t{i}", [float(i)], correct=[None], agrees=[i % 2 == 0], full_correct=None)
        for i in range(10)
    ]
    report = Evaluator(unlabelled, rule(loss="disagree")).at(0.3).to_json()
    assert report["full"]["accuracy"] is None
    assert report["stopped"]["accuracy"] is None
    assert report["oracle_accuracy"] is None
    with pytest.raises(InputError, match="correct is null"):
        Evaluator(unlabelled, rule())


def test_infinite_thresholds_are_spelled_and_one_class_has_no_auroc() -> None:
    good = [trace("a", [1.0], correct=[True])]
    all_stop = rule(worst_scores=np.full(50, -math.inf, dtype=np.float32))
    report = Evaluator(good, all_stop).at(0.1).to_json()
    assert report["threshold"] == "-Infinity"
    assert report["score_auroc"] is None
    assert report["stopped"]["tokens"] == 10


def test_nothing_to_evaluate_is_explained() -> None:
    with pytest.raises(InputError, match=r"own.jsonl: there is no trace"):
        Evaluator([], rule(), source="own.jsonl")
    with pytest.raises(InputError, match=r"own.jsonl: none of the 1 traces has a cue"):
        Evaluator([trace("a", [])], rule(), source="own.jsonl")
