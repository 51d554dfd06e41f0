"""Rules side by side: what the table says, and what it refuses to compare."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from table_makers import trace

from calibration.evaluate import NEVER, replay, threshold_stops
from calibration.losses import bad_cues
from calibration.risk import threshold
from calibration.rules import RULES, Terms, make_rule
from calibration.rules.comparison import Comparison, Contestant, compare
from calibration.rules.plot import plot_comparison
from calibration.simulate import SimulatorSettings, simulate
from calibration.table import CueTable
from calibration.worst import worst_bad_scores
from probes.errors import InputError

CAL = simulate(SimulatorSettings(1000, looks=True, seed=1))
TEST = simulate(SimulatorSettings(600, looks=True, seed=2))
NOISE = np.random.default_rng(0)
TERMS = Terms("wrong", 0.1)


def blurred(table: CueTable) -> CueTable:
    return table.with_scores(table.scores + NOISE.normal(0, 4, table.n_cues).astype(np.float32))


@pytest.fixture(scope="module")
def found() -> Comparison:
    pair = [Contestant("sharp", CAL, TEST), Contestant("blurred", blurred(CAL), blurred(TEST))]
    names = ("level", "timer", "second-look", "beta-mixture")
    return compare(pair, [make_rule(name) for name in names], TERMS)


def test_each_row_is_a_replay_of_the_rule(found: Comparison) -> None:
    limit = threshold(worst_bad_scores(CAL, "wrong"), 0.1)
    expected = replay("", TEST, bad_cues(TEST, "wrong"), threshold_stops(TEST, limit))
    level = found.rows[0]
    assert (level.artifact, level.outcome.rule) == ("sharp", "level")
    assert level.outcome.tokens == expected.tokens
    assert level.outcome.bad_stop_interval == expected.bad_stop_interval
    saved = found.full.tokens - expected.tokens
    assert level.oracle_share == pytest.approx(saved / (found.full.tokens - found.oracle.tokens))


def test_looks_are_deducted_from_what_is_saved(found: Comparison) -> None:
    row = next(row for row in found.rows if row.outcome.rule == "second-look")
    spent = row.outcome.tokens + row.outcome.extra_tokens
    assert row.outcome.extra_tokens > 0
    assert row.oracle_share == pytest.approx(
        (found.full.tokens - spent) / (found.full.tokens - found.oracle.tokens)
    )


def test_the_best_is_guaranteed_and_named_with_its_artifact(found: Comparison) -> None:
    best = found.best_guaranteed
    assert best is not None and best.guarantee == "risk" and best.artifact == "sharp"
    spent = {row: row.outcome.tokens + row.outcome.extra_tokens for row in found.rows}
    loose = [row for row in found.rows if spent[row] < spent[best]]
    assert loose and {row.guarantee for row in loose} == {"none"}
    assert found.label(best) == f"{best.outcome.rule} (sharp)"
    timers = [row.outcome.tokens for row in found.rows if row.outcome.rule == "timer"]
    assert timers[0] == timers[1]  # it reads no score


def test_the_json_has_the_agreed_shape(found: Comparison) -> None:
    report = found.to_json()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report.keys() == {
        "alpha", "loss", "method", "confidence", "n_test", "rows", "full", "oracle",
        "best_guaranteed", "left_out",
    }  # fmt: skip
    assert (report["alpha"], report["n_test"], report["confidence"]) == (0.1, 600, 0.9)
    assert report["rows"][0].keys() == {
        "rule", "artifact", "guarantee", "accuracy", "tokens", "extra_tokens", "bad_stops",
        "bad_stop_share", "bad_stop_interval", "stopped_share", "oracle_share", "wall_s",
    }  # fmt: skip
    assert all(row["wall_s"] is None for row in report["rows"])
    assert len(report["rows"]) == 8


def test_a_rule_that_refuses_is_left_out_with_its_reason_or_insisted_on() -> None:
    few = [Contestant("few", CAL.take(range(60)), TEST)]
    rules = [make_rule(name) for name in ("level", "bonferroni")]
    comparison = compare(few, rules, TERMS, {"budget": "needs --budget"}, insist=False)
    assert [row.outcome.rule for row in comparison.rows] == ["level"]
    assert comparison.left_out[0] == ("budget", "few", "needs --budget")
    assert comparison.left_out[1][:2] == ("bonferroni", "few")
    assert "so 399 more" in comparison.left_out[1][2]
    assert comparison.to_json()["left_out"][0]["reason"] == "needs --budget"
    with pytest.raises(InputError, match="so 399 more"):
        compare(few, rules, TERMS)


def test_without_a_guaranteed_rule_there_is_no_best() -> None:
    only = compare([Contestant("a", CAL, TEST)], [make_rule("lynx")], TERMS)
    assert only.best_guaranteed is None
    assert only.to_json()["best_guaranteed"] is None
    assert only.label(only.rows[0]) == "lynx"


def test_where_the_oracle_saves_nothing_there_is_no_share_of_it() -> None:
    bad = CueTable.from_traces([trace(f"b{i}", [float(i)], correct=[False]) for i in range(40)])
    rows = compare([Contestant("a", CAL, bad)], [make_rule("level")], TERMS).rows
    assert rows[0].oracle_share is None


def test_calibration_and_test_traces_must_not_share_a_group() -> None:
    shared = CAL.take(range(990, 1000))
    with pytest.raises(InputError, match="10 groups are among both"):
        compare([Contestant("a", CAL, shared)], [make_rule("level")], TERMS)


def test_contestants_must_be_tested_on_the_same_traces() -> None:
    other = simulate(SimulatorSettings(600, seed=3))
    pair = [Contestant("a", CAL, TEST), Contestant("b", CAL, other)]
    with pytest.raises(InputError, match="b: its test traces are not those of the others"):
        compare(pair, [make_rule("level")], TERMS)


def test_test_traces_without_a_cue_are_refused() -> None:
    bare = CueTable.from_traces([trace("a", [])])
    with pytest.raises(InputError, match="none of the 1 test traces has a cue"):
        compare([Contestant("a", CAL, bare)], [make_rule("level")], TERMS)


def test_the_plot_is_a_png_with_and_without_accuracies(found: Comparison, tmp_path: Path) -> None:
    plot_comparison(found, tmp_path / "a.png", "two probes")
    unknown = np.full(TEST.n_cues, -1, dtype=np.int8)
    unlabelled = dataclasses.replace(
        TEST, correct=unknown, full_correct=np.full_like(TEST.full_correct, -1)
    )
    rules = [make_rule(name) for name in RULES if name not in ("budget", "mapie")]
    blind = compare([Contestant("a", CAL, unlabelled)], rules, Terms("disagree", 0.1))
    assert blind.full.accuracy is None
    plot_comparison(blind, tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_never_stopping_costs_the_full_traces() -> None:
    constant = CAL.with_scores(np.zeros(CAL.n_cues, dtype=np.float32))
    still = TEST.with_scores(np.zeros(TEST.n_cues, dtype=np.float32))
    comparison = compare([Contestant("a", constant, still)], [make_rule("level")], TERMS)
    assert (comparison.rows[0].fitted.stops(still) == NEVER).all()
    assert comparison.rows[0].oracle_share == 0
