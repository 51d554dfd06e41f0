"""What must fail: per-cue rules on traces of many cues, and a promise carried to other traffic.

If one of these ever passes its alpha, the tests of the promise prove nothing.
"""

import numpy as np
import pytest
from populations import RiskCurve, population

from calibration.conformal import MapiePerCue, lynx_threshold
from calibration.evaluate import first_cues, replay
from calibration.losses import bad_cues
from calibration.risk import threshold

ALPHA = 0.1


def lynx_risks(cues: int, loss: str = "wrong", n: int = 500) -> np.ndarray:
    drawn = population(cues)
    limits = [
        lynx_threshold(*drawn.cue_scores(traces, loss), ALPHA)
        for traces in drawn.calibration_sets(n, 200)
    ]
    assert len(limits) == 200
    return RiskCurve(drawn.test, loss).at(np.array(limits, dtype=np.float32))


def test_lynx_keeps_alpha_where_there_is_one_cue() -> None:
    assert lynx_risks(1).mean() <= ALPHA


@pytest.mark.parametrize(("cues", "at_least"), [(10, 0.15), (30, 0.2)])
def test_lynx_fails_where_there_are_many(cues: int, at_least: float) -> None:
    risks = lynx_risks(cues)
    assert risks.mean() > at_least
    assert (risks > ALPHA).mean() > 0.99


@pytest.mark.parametrize("loss", ["disagree", "harm"])
def test_lynx_fails_for_the_other_losses(loss: str) -> None:
    assert lynx_risks(10, loss).mean() > 1.2 * ALPHA


def test_more_calibration_traces_do_not_cure_lynx() -> None:
    drawn = population(10)
    limit = lynx_threshold(*drawn.cue_scores(slice(0, 100_000), "wrong"), ALPHA)
    assert RiskCurve(drawn.test, "wrong").at(np.float32([limit]))[0] > 1.5 * ALPHA


def test_mapie_per_cue_fails_as_well() -> None:
    drawn = population(10)
    test = drawn.test.take(range(5000))
    bad = bad_cues(test, "wrong")
    for traces in drawn.calibration_sets(500, 3):
        passing = MapiePerCue(*drawn.cue_scores(traces, "wrong"), ALPHA).passes(test.scores)
        outcome = replay("MAPIE per cue", test, bad, first_cues(passing, test))
        assert outcome.bad_stop_interval is not None
        assert outcome.bad_stop_interval[0] > 1.2 * ALPHA


def test_a_promise_made_at_five_cues_breaks_at_twenty() -> None:
    calm, busy = population(5), population(20)
    worst = calm.worst("wrong")
    limits = [threshold(worst[traces], ALPHA, "crc") for traces in calm.calibration_sets(500)]
    limits_32 = np.array(limits, dtype=np.float32)
    assert RiskCurve(calm.test, "wrong").at(limits_32).mean() == pytest.approx(ALPHA, abs=0.005)
    assert RiskCurve(busy.test, "wrong").at(limits_32).mean() > 1.3 * ALPHA
