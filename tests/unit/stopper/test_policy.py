"""The policy's thresholds are those of calibration, and its comparison is float32's."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import makers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import risk
from calibration.evaluate import NEVER, threshold_stops
from calibration.table import as_table
from calibration.traces import TraceDataset, scored_traces
from probes.shaping import RunningShape
from stopper.artifact import Artifact
from stopper.errors import ArtifactError, InputError
from stopper.policy import StopPolicy

WORST = makers.worst_scores(300)


def policy(method: str = "ltt") -> StopPolicy:
    return StopPolicy(WORST, method, 0.9)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["ltt", "crc"])
@settings(max_examples=200, deadline=None)
@given(alpha=st.floats(1e-6, 1 - 1e-6))
def test_any_alpha_gets_the_exact_threshold(method: str, alpha: float) -> None:
    found = policy(method).threshold(alpha)
    assert isinstance(found, np.float32)
    assert float(found) == risk.threshold(WORST, alpha, method, 0.9)


def test_a_larger_alpha_never_stops_later() -> None:
    limits = [policy().threshold(alpha) for alpha in np.linspace(0.001, 0.999, 200)]
    assert all(high >= low for high, low in pairwise(limits))


def test_stops_above_and_only_above() -> None:
    rule = policy()
    limit = rule.threshold(0.1)
    assert math.isfinite(limit)
    at, above = rule.decide(limit, 0.1), rule.decide(np.nextafter(limit, np.float32(9)), 0.1)
    assert (at.stop, at.reason) == (False, "score_below_threshold")
    assert (above.stop, above.reason) == (True, "score_above_threshold")
    assert at.threshold == limit


def test_the_comparison_is_in_float32() -> None:
    rule = policy()
    limit = rule.threshold(0.1)
    # More than the threshold in float64, equal to it in the float32 that the engine compares.
    slightly_more = float(limit) + abs(float(limit)) * 1e-10
    assert slightly_more > float(limit)
    assert not rule.decide(slightly_more, 0.1).stop


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, 1e39])
def test_a_score_that_is_not_finite_never_stops(score: float) -> None:
    decision = policy().decide(score, 0.1)
    assert (decision.stop, decision.reason) == (False, "score_not_finite")


def test_too_few_traces_never_stop() -> None:
    rule = StopPolicy(makers.worst_scores(21), "ltt", 0.9)
    decision = rule.decide(100.0, 0.1)
    assert (decision.stop, decision.reason) == (False, "too_few_calibration_traces")
    assert decision.threshold == np.inf
    assert StopPolicy(makers.worst_scores(22), "ltt", 0.9).decide(100.0, 0.1).stop


def test_minus_infinity_stops_at_any_finite_score() -> None:
    rule = StopPolicy(np.full(300, -np.inf, np.float32), "ltt", 0.9)
    assert rule.threshold(0.1) == -np.inf
    assert rule.decide(-1e30, 0.1).stop


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 1.5, math.nan, math.inf])
def test_alpha_outside_is_refused(alpha: float) -> None:
    with pytest.raises(InputError, match="alpha"):
        policy().threshold(alpha)


def test_the_cache_is_bounded() -> None:
    rule = policy("crc")
    for alpha in np.linspace(0.01, 0.9, 5000):
        rule.threshold(float(alpha))
    assert len(rule._known) <= 4096


def test_from_a_calibrated_artifact() -> None:
    made = makers.artifact()
    record = made.manifest.calibration
    assert record is not None
    assert float(StopPolicy.from_artifact(made).threshold(record.alpha)) == record.threshold


def test_refuses_what_promises_nothing() -> None:
    with pytest.raises(ArtifactError, match="not calibrated"):
        StopPolicy.from_artifact(makers.artifact(calibrated=False))
    made = makers.artifact()
    lynx = makers.calibration(WORST, method="lynx", confidence=None, threshold=0.5)
    manifest = made.manifest.model_copy(update={"calibration": lynx})
    with pytest.raises(ArtifactError, match="method lynx"):
        StopPolicy.from_artifact(Artifact(manifest, made.probe, made.cues))


def test_deciding_cue_by_cue_is_the_offline_replay(tmp_path: Path) -> None:
    """One state at a time, as the engine sees them, against whole traces at once."""
    dataset = TraceDataset(makers.store(tmp_path, makers.records(250)))
    probe = makers.probe()
    table = as_table(scored_traces(dataset, probe))
    rule = StopPolicy(np.sort(risk.worst_bad_scores(table, "disagree")), "ltt", 0.9)
    stopped = 0
    for alpha in (0.05, 0.1, 0.3):
        offline = threshold_stops(table, float(rule.threshold(alpha)))
        for row, record in enumerate(dataset):
            running = RunningShape(probe.spec)
            online = NEVER
            for index, state in enumerate(record.hidden):
                score = running.push(probe.score(state[None])[0])
                if rule.decide(score, alpha).stop:
                    online = index
                    break
            if offline[row] == NEVER:
                assert online == NEVER
            else:
                assert table.offsets[row] + online == offline[row]
                stopped += 1
    assert stopped > 100
