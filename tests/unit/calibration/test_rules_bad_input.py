"""Rules on degenerate traces: exact, explained outcomes."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from table_makers import trace

from calibration.calibrate import calibrate, calibrate_rule
from calibration.evaluate import NEVER
from calibration.report import Evaluator, Rule
from calibration.risk import minimum_units
from calibration.rules import RULES, Terms, make_rule
from calibration.simulate import SimulatorSettings, simulate
from calibration.table import CueTable
from probes.errors import InputError, TooFewTraces

CAL = simulate(SimulatorSettings(1000, looks=True, seed=1))
TEST = simulate(SimulatorSettings(400, looks=True, seed=2))
TERMS = Terms("wrong", 0.1)
OPTIONS = {"budget": {"tokens": 500.0, "longest": 10_000}}
GUARANTEED = [name for name, rule in RULES.items() if rule.guarantee == "risk"]
SCORED = [name for name in GUARANTEED if RULES[name].any_alpha]


def fit(name: str, table: CueTable, terms: Terms = TERMS):
    return make_rule(name, OPTIONS.get(name)).fit(table, terms)


def stopped(name: str, table: CueTable, terms: Terms = TERMS) -> np.ndarray:
    return fit(name, table, terms).stops(table) != NEVER


# How many traces a rule needs.


@pytest.mark.parametrize("method", ["ltt", "crc"])
@pytest.mark.parametrize("name", GUARANTEED)
def test_one_trace_below_the_minimum_is_refused_and_the_minimum_is_not(
    name: str, method: str
) -> None:
    terms = Terms("wrong", 0.1, method)
    parts = {"hopeless": (0.02, 0.98), "bonferroni": (0.01, 0.99)}
    alpha, confidence = parts.get(name, (0.1, 0.9))
    needed = minimum_units(method, alpha, confidence)
    with pytest.raises(TooFewTraces, match=rf"it needs at least {needed}, so 1 more"):
        fit(name, CAL.take(range(needed - 1)), terms)
    assert fit(name, CAL.take(range(needed)), terms).guarantee == "risk"


@pytest.mark.parametrize("name", RULES)
def test_rollouts_of_one_prompt_are_one_trace(name: str) -> None:
    several = simulate(SimulatorSettings(1000, rollouts=100, looks=True, seed=4))
    if name in GUARANTEED:
        with pytest.raises(TooFewTraces, match="rollouts of one group count once"):
            fit(name, several)
    elif name == "budget":
        with pytest.raises(InputError, match=r"981\.5 with the allowance for one unseen trace"):
            fit(name, several)
    else:
        assert fit(name, several).guarantee == "none"


@pytest.mark.parametrize("name", SCORED)
def test_the_worst_rollout_is_stricter_than_a_drawn_one(name: str) -> None:
    several = simulate(SimulatorSettings(1000, rollouts=4, looks=True, seed=4))
    drawn, worst = (
        fit(name, several, Terms("wrong", 0.2, rollouts=rollouts)) for rollouts in ("one", "worst")
    )
    assert worst.threshold > drawn.threshold


# No cues, few cues.


@pytest.mark.parametrize("name", RULES)
def test_traces_without_any_cue_are_refused(name: str) -> None:
    bare = CueTable.from_traces([trace(f"t{i}", []) for i in range(1000)])
    with pytest.raises(InputError, match="none of the 1000 calibration traces has a cue"):
        fit(name, bare)


@pytest.mark.parametrize("name", RULES)
def test_traces_without_cues_among_others_are_never_stopped(name: str) -> None:
    sparse = simulate(SimulatorSettings(1000, no_cues=0.9, looks=True, seed=3))
    budget = {"tokens": 0.9 * float(sparse.tokens.mean()), "longest": 3000.0}
    fitted = make_rule(name, {"budget": budget}.get(name)).fit(sparse, TERMS)
    stops = fitted.stops(sparse)
    bare = np.diff(sparse.offsets) == 0
    assert bare.sum() > 850
    assert (stops[bare] == NEVER).all()
    assert (fitted.extra_tokens(sparse, stops)[bare] == 0).all()
    assert (stops != NEVER).any()  # they count as never stopped badly, so that others may be


# Scores that tell nothing.


def constant(table: CueTable = CAL) -> CueTable:
    return table.with_scores(np.full(table.n_cues, 0.5, dtype=np.float32))


@pytest.mark.parametrize("name", ["level", "patience", "bonferroni", "hopeless", "lynx", "mapie"])
def test_a_constant_score_stops_nothing(name: str) -> None:
    """Stopping all at their first cue would be bad too often, and nothing lies between."""
    assert not stopped(name, constant()).any()


def test_a_constant_score_leaves_the_timer_as_it_was() -> None:
    assert fit("timer", constant()).found == fit("timer", CAL).found


def test_a_constant_score_makes_q_exit_count_cues() -> None:
    limit = fit("q-exit", constant()).threshold
    each = math.log1p(math.exp(0.5))
    assert limit == pytest.approx(each * round(limit / each), rel=1e-5)


def test_a_constant_score_is_no_mixture() -> None:
    with pytest.raises(InputError, match=f"the {CAL.n_cues} scores take fewer than four values"):
        fit("beta-mixture", constant())


def test_a_constant_score_leaves_a_budget_all_or_nothing() -> None:
    rule = make_rule("budget", {"tokens": 500, "longest": 4000})
    assert rule.fit(constant(), TERMS).threshold == -math.inf
    assert stopped("budget", constant()).all()


@pytest.mark.parametrize("name", [*GUARANTEED, "budget"])
def test_ties_everywhere_keep_the_promise_on_the_calibration_traces(name: str) -> None:
    """Five distinct scores: the threshold is one of them, and stops only above it."""
    tied = CAL.with_scores(np.clip(np.round(CAL.scores / 3), -2, 2))
    fitted = fit(name, tied)
    stops = fitted.stops(tied)
    bad = np.append(tied.correct == 0, False)[stops] & (stops != NEVER)
    assert bad.mean() <= 0.1 or fitted.guarantee != "risk"
    if name == "level":
        assert fitted.threshold in (-2, -1, 0, 1, 2)


# One class.


def one_class(good: bool) -> CueTable:
    return dataclasses.replace(CAL, correct=np.full_like(CAL.correct, int(good)))


@pytest.mark.parametrize("name", GUARANTEED)
def test_where_every_stop_is_good_every_rule_stops_at_its_first_chance(name: str) -> None:
    table = one_class(good=True)
    fitted = fit(name, table)
    stops = fitted.stops(table)
    chance = 1 if name == "patience" else 0
    long = np.diff(table.offsets) > chance
    assert (stops[long] == table.offsets[:-1][long] + chance).all()
    if name in SCORED:
        assert any("stops at its first chance" in note for note in fitted.notes)


@pytest.mark.parametrize("name", GUARANTEED)
def test_where_every_stop_is_bad_hardly_any_is_made(name: str) -> None:
    table = one_class(good=False)
    assert stopped(name, table).mean() <= 0.1


@pytest.mark.parametrize("good", [True, False])
def test_one_class_is_refused_unless_it_is_said_to_be_right(good: bool) -> None:
    kind = "good" if good else "bad"
    for name in ("timer", "hopeless", "mapie"):
        rule = make_rule(name)
        with pytest.raises(InputError, match=f"own: all {CAL.n_cues} cues are {kind}"):
            calibrate_rule(rule, one_class(good), TERMS, source="own")
        if name != "mapie":
            found = calibrate_rule(rule, one_class(good), TERMS, allow_one_class=True)
            assert any(f"cues are {kind}" in note for note in found.notes)


# From a calibration to its evaluation.


def artifact_rule(name: str) -> Rule:
    found = calibrate_rule(make_rule(name, OPTIONS.get(name)), CAL, TERMS)
    return Rule(
        found.method, found.loss, found.confidence, found.worst_scores, found.good_scores,
        found.bad_scores, found.rule, found.parameters, found.alpha,
    )  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_an_evaluation_replays_the_rule_itself(name: str) -> None:
    fitted = fit(name, CAL)
    stops = fitted.stops(TEST)
    evaluation = Evaluator(TEST, artifact_rule(name)).at(0.1)
    outcome = evaluation.stopped
    tokens = np.where(stops == NEVER, TEST.tokens, np.append(TEST.positions, 0)[stops])
    assert outcome.tokens == pytest.approx(tokens.mean())
    assert outcome.extra_tokens == fitted.extra_tokens(TEST, stops).mean()
    assert evaluation.to_json()["rule"] == name
    assert evaluation.guarantee == fitted.guarantee
    assert evaluation.budget.tokens == pytest.approx(
        min(outcome.tokens + outcome.extra_tokens, evaluation.full.tokens)
    )


def test_tokens_of_looks_are_not_counted_as_saved() -> None:
    evaluation = Evaluator(TEST, artifact_rule("second-look")).at(0.1)
    spent = evaluation.stopped.tokens + evaluation.stopped.extra_tokens
    assert evaluation.stopped.extra_tokens > 0
    assert evaluation.saved_share == pytest.approx(1 - spent / evaluation.full.tokens)
    assert evaluation.to_json()["extra_tokens"] == evaluation.stopped.extra_tokens


@pytest.mark.parametrize("name", SCORED)
def test_another_alpha_is_answered_from_the_kept_scores(name: str) -> None:
    rule = artifact_rule(name)
    for alpha in (0.05, 0.2):
        fresh = fit(name, CAL, Terms("wrong", alpha))
        assert rule.threshold(alpha) == fresh.threshold
        assert rule.fitted(alpha).stops(TEST).tolist() == fresh.stops(TEST).tolist()
    assert rule.carries(0.05) and not rule.carries(0.001)


@pytest.mark.parametrize("name", ["hopeless", "bonferroni", "budget", "beta-mixture", "mapie"])
def test_another_alpha_is_refused_where_none_can_be_answered(name: str) -> None:
    rule = artifact_rule(name)
    assert rule.carries(0.1) and not rule.carries(0.2)
    remedy = f"stopper calibrate --rule {name} --alpha 0.2"
    with pytest.raises(InputError, match=f"answers no other; give --alpha 0.1, .*{remedy}"):
        rule.threshold(0.2)
    with pytest.raises(InputError, match="alpha is 2"):
        rule.fitted(2)


def test_level_by_either_way_is_the_same() -> None:
    found, plain = calibrate_rule(make_rule("level"), CAL, TERMS), calibrate(CAL, "wrong", 0.1)
    assert (found.threshold, found.promise) == (plain.threshold, plain.promise)
    assert found.worst_scores.tolist() == plain.worst_scores.tolist()
