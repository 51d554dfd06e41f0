import math

import numpy as np
import pytest
from table_makers import trace

from calibration.calibrate import calibrate
from calibration.conformal import lynx_threshold
from calibration.losses import bad_cues
from calibration.risk import threshold, worst_bad_scores
from calibration.simulate import SimulatorSettings, simulate
from probes.errors import InputError, TooFewTraces

TABLE = simulate(SimulatorSettings(300, seed=1, rollouts=2))


@pytest.mark.parametrize("method", ["ltt", "crc"])
@pytest.mark.parametrize("loss", ["disagree", "wrong", "harm"])
def test_a_calibration_is_its_parts(method: str, loss: str) -> None:
    found = calibrate(TABLE, loss, 0.1, method, 0.9)
    bad = bad_cues(TABLE, loss)
    worst = worst_bad_scores(TABLE, loss)
    assert found.worst_scores.tolist() == sorted(worst.tolist())
    assert found.threshold == threshold(worst, 0.1, method, 0.9)
    assert found.good_scores.tolist() == np.sort(TABLE.scores[~bad]).tolist()
    assert found.bad_scores.tolist() == np.sort(TABLE.scores[bad]).tolist()
    assert (found.n_units, found.n_traces, found.rollouts) == (150, 300, 2)
    assert found.confidence == (0.9 if method == "ltt" else None)
    assert "these 150, at most 0.1 are stopped early with" in found.promise
    assert "150 of 150 groups have several traces" in found.notes[0]


def test_lynx_promises_nothing_per_request() -> None:
    found = calibrate(TABLE, "wrong", 0.1, "lynx")
    assert found.threshold == lynx_threshold(found.good_scores, found.bad_scores, 0.1)
    assert "promises nothing per request" in found.promise


def test_units_are_counted_not_traces() -> None:
    rollouts = simulate(SimulatorSettings(200, seed=1, rollouts=10))
    with pytest.raises(TooFewTraces, match=r"20 calibration traces.*at least 22, so 2 more"):
        calibrate(rollouts, "wrong", 0.1)


def test_no_cue_at_all_is_explained() -> None:
    cueless = [trace(f"t{i}", []) for i in range(30)]
    with pytest.raises(InputError, match=r"own.jsonl: none of the 30 traces has a cue"):
        calibrate(cueless, "wrong", 0.1, source="own.jsonl")


@pytest.mark.parametrize(("good", "kind", "limit"), [(True, "good", -math.inf), (False, "bad", 28)])
def test_one_class_only_is_explained(good: bool, kind: str, limit: float) -> None:
    same = [trace(f"t{i}", [float(i)], correct=[good]) for i in range(30)]
    with pytest.raises(InputError, match=f"own: all 30 cues are {kind}.*--allow-one-class"):
        calibrate(same, "wrong", 0.15, source="own")
    found = calibrate(same, "wrong", 0.15, allow_one_class=True)
    assert found.threshold == limit
    assert f"all 30 cues are {kind}" in found.notes[0]


def test_lynx_with_too_few_bad_cues_says_that_it_never_stops() -> None:
    few = [trace(f"t{i}", [float(i)], correct=[i > 2]) for i in range(30)]
    found = calibrate(few, "wrong", 0.1, "lynx")
    assert found.threshold == math.inf
    assert "never stops" in found.notes[0]


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(InputError, match="ltt, crc, lynx"):
        calibrate(TABLE, "wrong", 0.1, "hope")
    with pytest.raises(InputError, match="one, worst"):
        calibrate(TABLE, "wrong", 0.1, rollouts="all")
    with pytest.raises(InputError, match="alpha"):
        calibrate(TABLE, "wrong", 1.0, "lynx")


def test_a_missing_label_is_named() -> None:
    unlabelled = [trace(f"t{i}", [1.0], agrees=[None]) for i in range(30)]
    with pytest.raises(InputError, match=r"'t0'.*cues\[0\]\.agrees is null"):
        calibrate(unlabelled, "disagree", 0.15)
