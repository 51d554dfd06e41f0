"""The numbers behind the figures, checked apart from drawing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from page_makers import RULE, TEST, changed
from sklearn.calibration import calibration_curve

from calibration.evaluate import clopper_pearson, threshold_stops
from calibration.page import words
from calibration.page.labels import _clusters
from calibration.page.profiles import cue_profile
from calibration.page.reliability import reliability_curve
from calibration.page.risk import alphas_to_show
from calibration.page.scores import score_histogram
from calibration.page.stops import place_picture, stop_places
from calibration.page.strata import PROMPT_SIZE, breakdown, strata_sentence, upper_tail
from calibration.profile import profile_of
from calibration.report import Evaluator
from calibration.simulate import SimulatorSettings, simulate

EVALUATOR = Evaluator(TEST, RULE)
STOPS = RULE.fitted(0.1).stops(TEST)


def test_places_of_stops_add_up_to_the_evaluation() -> None:
    row = EVALUATOR.at(0.1).stopped
    found = stop_places(TEST, EVALUATOR.bad, STOPS)
    assert found.spent.mean() == row.tokens
    assert found.bad.sum() == row.bad_stops
    assert found.never == round((1 - row.stopped_share) * len(TEST))
    assert 0 < found.shares.min() <= found.shares.max() <= 1
    cells = place_picture(found).numbers.rows
    assert sum(int(stops) for _, stops, _ in cells) == len(TEST)
    assert sum(int(bad) for _, _, bad in cells) == row.bad_stops


def test_the_histogram_counts_every_cue_once() -> None:
    limit = RULE.threshold(0.1)
    found = score_histogram(TEST.scores, EVALUATOR.bad, limit)
    assert found.bad.sum() == EVALUATOR.bad.sum()
    assert found.good.sum() + found.bad.sum() == TEST.n_cues
    assert found.good_above + found.bad_above == (TEST.scores > np.float32(limit)).sum()
    assert found.edges[0] < limit < found.edges[-1]


@pytest.mark.parametrize("threshold", [None, math.inf, -math.inf])
def test_a_histogram_needs_no_finite_threshold_and_no_finite_score(threshold: float | None) -> None:
    scores = np.array([-np.inf, 1.0, 1.0], dtype=np.float32)
    found = score_histogram(scores, np.array([True, False, True]), threshold)
    assert found.good.sum() == 1 and found.bad.sum() == 2
    assert np.isfinite(found.edges).all()


def test_the_reliability_curve_is_that_of_scikit_learn_with_sizes_and_intervals() -> None:
    positive = TEST.agrees == 1
    curve = reliability_curve(TEST.scores, positive)
    probability = 1 / (1 + np.exp(-TEST.scores.astype(np.float64)))
    found, said = calibration_curve(positive, probability, n_bins=10)
    np.testing.assert_allclose(curve.found, found)
    np.testing.assert_allclose(curve.said, said)
    assert curve.counts.sum() == TEST.n_cues
    hits = curve.found * curve.counts
    np.testing.assert_allclose(hits, np.round(hits), atol=1e-9)
    assert tuple(curve.intervals[0]) == clopper_pearson(round(hits[0]), int(curve.counts[0]))


def test_a_profile_compared_with_itself_does_not_move() -> None:
    known = profile_of(TEST)
    same = cue_profile(TEST, known)
    assert same.calibration is not None
    assert same.moved == {"cues": 0.0, "tokens": 0.0, "scores": 0.0}
    np.testing.assert_array_equal(same.test, same.calibration)
    longer = simulate(SimulatorSettings(300, cues=40, seed=5))
    assert cue_profile(longer, known).moved["cues"] > 3 * cue_profile(longer, known).noise["cues"]


def test_an_artifact_without_profile_is_not_compared() -> None:
    alone = cue_profile(TEST, None)
    assert alone.calibration is None and alone.moved == {}
    assert alone.test.sum() == pytest.approx(1.0)


def test_bins_of_a_profile_are_named_by_the_counts_they_hold() -> None:
    cues = np.repeat([0, 1, 2, 7], 5)
    offsets = np.concatenate([[0], np.cumsum(cues)])
    table = simulate(SimulatorSettings(20, cues=1, seed=1))
    n = int(offsets[-1])
    column = np.ones(n, dtype=np.int8)
    table = changed(
        table, offsets=offsets, positions=np.arange(1, n + 1), scores=column.astype(np.float32),
        correct=column, agrees=column,
    )  # fmt: skip
    found = cue_profile(table, None)
    held = dict(zip(found.names, found.test, strict=True))
    assert sum(held.values()) == pytest.approx(1.0)
    assert held["7 or more"] == 0.25


def test_the_breakdown_adds_up_and_keeps_each_parts_own_stops() -> None:
    levels = [None if row % 5 == 0 else str(row % 5 * 5) for row in range(len(TEST))]
    table = changed(TEST, strata={"level": levels})
    found = breakdown(table, EVALUATOR.bad, STOPS, 0.1)
    assert [part.value for part in found.parts] == ["5", "10", "15", "20", "unknown"]
    assert found.single == ((PROMPT_SIZE, "1"),)
    assert sum(part.n for part in found.parts) == len(TEST)
    assert sum(part.bad_stops for part in found.parts) == EVALUATOR.at(0.1).stopped.bad_stops
    for part in found.parts:
        rows = [r for r, level in enumerate(levels) if (level or "unknown") == part.value]
        alone = Evaluator(TEST.take(rows), RULE).at(0.1)
        assert part.bad_stops == alone.stopped.bad_stops
        assert part.accuracy == alone.stopped.accuracy
        assert part.full_accuracy == alone.full.accuracy
        assert part.interval == alone.stopped.bad_stop_interval
        assert part.saved == pytest.approx(alone.saved_share)


def test_a_bad_part_is_marked_and_the_mark_survives_many_looks_only_if_it_is_clear() -> None:
    table = simulate(SimulatorSettings(1000, seed=4))
    stops = threshold_stops(table, -math.inf)
    bad = np.zeros(table.n_cues, dtype=np.bool_)
    bad[stops[:40]] = True  # every trace of the first part is stopped badly
    bad[stops[40:47]] = True  # seven of forty of the second
    parts = ["a"] * 40 + ["b"] * 40 + [f"c{row % 8}" for row in range(920)]
    found = breakdown(changed(table, strata={"kind": parts}), bad, stops, 0.05)
    marks = {part.value: (part.above, part.above_adjusted) for part in found.parts}
    assert marks.pop("a") == (True, True)
    assert marks.pop("b") == (True, False)
    assert set(marks.values()) == {(False, False)}
    sentence = strata_sentence(found)
    assert "kind a, kind b lies above alpha" in sentence
    assert "certain enough for kind a." in sentence


def test_rare_values_are_pooled() -> None:
    table = changed(TEST, strata={"category": [f"c{row % 40}" for row in range(len(TEST))]})
    found = breakdown(table, EVALUATOR.bad, STOPS, 0.1)
    assert len(found.parts) == 20
    assert found.parts[-1].value == "all others"
    assert sum(part.n for part in found.parts) == len(TEST)


def test_prompt_sizes_are_a_stratum_where_they_differ() -> None:
    groups = ["g0", "g0", *(f"h{row}" for row in range(len(TEST) - 2))]
    found = breakdown(changed(TEST, groups=groups), EVALUATOR.bad, STOPS, 0.1)
    assert [(part.stratum, part.value, part.n) for part in found.parts] == [
        (PROMPT_SIZE, "1", len(TEST) - 2), (PROMPT_SIZE, "2", 2),
    ]  # fmt: skip


def test_the_tail_agrees_with_the_lower_bound_of_the_interval() -> None:
    for count in range(1, 30):
        low, _ = clopper_pearson(count, 30)
        assert upper_tail(count, 30, 30.0, low) == pytest.approx(0.025)


def test_alphas_around_the_one_asked_for_are_those_that_calibration_carries() -> None:
    shown = alphas_to_show(RULE, [0.07])
    assert 0.07 in shown and shown == sorted(shown)
    assert all(RULE.carries(alpha) for alpha in shown)
    assert 0.01 not in shown  # 200 traces are too few


def test_points_on_top_of_each_other_share_a_label() -> None:
    assert _clusters([(0, 0), (3, 3), (50, 0), (1, 0)]) == [[0, 1, 3], [2]]


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (words.percent(-0.0004), "0.0\xa0%"),
        (words.points(-0.0124), "\u22121.2\xa0points"),
        (words.points(0.004), "+0.4\xa0points"),
        (words.count(118.08), "118.1"),
        (words.interval_text(None), "\u2013"),
        (words.threshold_text(math.inf), "never stops"),
        (words.label("a\n b\x00" + "c" * 40), "a b?" + "c" * 17 + "\u2026"),
    ],
)
def test_numbers_are_spelled_for_people(found: str, wanted: str) -> None:
    assert found == wanted
