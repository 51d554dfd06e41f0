"""What must fail: per-cue rules on traces of many cues, and a promise carried to other traffic.

If one of these ever passes its alpha, the tests of the promise prove nothing.
"""

import numpy as np
import pytest
from bars import ALPHA, BARS, risk_curve, worst_scores
from populations import calibration_sets, population

from calibration.conformal import MapiePerCue, lynx_threshold
from calibration.evaluate import first_cues, replay
from calibration.losses import bad_cues
from calibration.risk import threshold


def lynx_risks(cues: int, loss: str = "wrong", n: int = 500) -> np.ndarray:
    drawn = population(cues)
    limits = [
        lynx_threshold(*drawn.cue_scores(traces, loss), ALPHA)
        for traces in calibration_sets(n, 200)
    ]
    assert len(limits) == 200
    return risk_curve(cues, loss).at(np.array(limits, dtype=np.float32))


def test_lynx_keeps_alpha_where_there_is_one_cue() -> None:
    assert lynx_risks(1).mean() <= ALPHA


@pytest.mark.parametrize("cues", [10, 30])
@pytest.mark.parametrize("loss", ["wrong", "harm", "disagree"])
def test_lynx_fails_every_bar_where_there_are_many(loss: str, cues: int) -> None:
    """The bars that the rules with a promise clear in each cell of the grid."""
    risks = lynx_risks(cues, loss)
    for bar in BARS.values():
        with pytest.raises(AssertionError):
            bar(risks)
    assert risks.mean() > 1.2 * ALPHA
    assert (risks > ALPHA).mean() > 0.9


def test_more_calibration_traces_do_not_cure_lynx() -> None:
    drawn = population(10)
    limit = lynx_threshold(*drawn.cue_scores(slice(0, 100_000), "wrong"), ALPHA)
    assert risk_curve(10, "wrong").at(np.array([limit], dtype=np.float32))[0] > 1.5 * ALPHA


@pytest.mark.parametrize(("loss", "cues"), [("wrong", 10), ("wrong", 30), ("disagree", 30)])
def test_mapie_per_cue_fails_as_well(loss: str, cues: int) -> None:
    """Over pooled cues; where bad cues are rare (harm), it stops so late that nothing shows."""
    drawn = population(cues)
    test = drawn.test.take(range(3000))
    bad = bad_cues(test, loss)
    for traces in calibration_sets(500, 2):
        passing = MapiePerCue(*drawn.cue_scores(traces, loss), ALPHA).passes(test.scores)
        outcome = replay("MAPIE per cue", test, bad, first_cues(passing, test))
        assert outcome.bad_stop_interval is not None
        assert outcome.bad_stop_interval[0] > 1.2 * ALPHA


def test_a_promise_made_at_five_cues_breaks_at_twenty() -> None:
    worst = worst_scores(5, "wrong")
    limits = [threshold(worst[traces], ALPHA, "crc") for traces in calibration_sets(500)]
    limits_32 = np.array(limits, dtype=np.float32)
    assert risk_curve(5, "wrong").at(limits_32).mean() == pytest.approx(ALPHA, abs=0.005)
    assert risk_curve(20, "wrong").at(limits_32).mean() > 1.3 * ALPHA
