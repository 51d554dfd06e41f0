"""Each rule against its own words, cue by cue; the registry; parameters there and back."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_makers import SCORES, trace_lists

from calibration.conformal import MapiePerCue
from calibration.evaluate import NEVER, threshold_stops
from calibration.losses import bad_cues
from calibration.rules import RULES, FittedRule, Terms, make_rule, restore, rule_class
from calibration.rules.beta_mixture import fit_mixture
from calibration.rules.budget import tokens_by_threshold
from calibration.rules.per_cue import lowest_passing
from calibration.rules.scored import trace_threshold
from calibration.rules.sequential import sequential_scores
from calibration.simulate import SimulatorSettings, simulate
from calibration.table import CueTable
from probes.errors import InputError
from probes.events import CueEvent, Trace

CAL = simulate(SimulatorSettings(1000, looks=True, seed=1))
TEST = simulate(SimulatorSettings(500, looks=True, seed=2))
OPTIONS = {"budget": {"tokens": 500.0, "longest": 10_000}}
TERMS = Terms("wrong", 0.1)
F = np.float32


def fit(name: str, terms: Terms = TERMS, table: CueTable = CAL, **options: object) -> FittedRule:
    return make_rule(name, options or OPTIONS.get(name)).fit(table, terms)


# The registry.


def test_an_unknown_rule_is_answered_with_the_choices() -> None:
    with pytest.raises(InputError, match="'levle' is unknown; choose one of level, hopeless, "):
        rule_class("levle")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("level", {"share": 0.5}, "rule 'level' has no option 'share'; it has none"),
        ("hopeless", {"cues": 5}, "has no option 'cues'; its options are share, after"),
        ("budget", {"tokens": 100}, "rule 'budget' needs the option longest"),
        ("hopeless", {"share": 1.0}, "share is 1.0; it must be strictly between 0 and 1"),
        ("hopeless", {"after": -1}, "after is -1"),
        ("hopeless", {"share": "most"}, "share is 'most'"),
        ("bonferroni", {"cues": 0}, "cues is 0; it must be a whole number from 1 on"),
        ("bonferroni", {"cues": 2.5}, r"cues is 2.5"),
        ("second-look", {"delta": 0}, "delta is 0; it must be a positive number"),
        ("second-look", {"signal": "mood"}, "choose one of repeats, confidence, both"),
        ("budget", {"tokens": math.inf, "longest": 1}, "tokens is inf"),
    ],
)
def test_a_wrong_option_is_named(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_rule(name, options)


@pytest.mark.parametrize("name", RULES)
def test_parameters_are_json_and_give_the_rule_back(name: str) -> None:
    fitted = fit(name)
    written = json.dumps(fitted.parameters, allow_nan=False)
    again = restore(name, json.loads(written), fitted.promise)
    stops = fitted.stops(TEST)
    assert (stops != NEVER).any()
    assert again.stops(TEST).tolist() == stops.tolist()
    assert again.extra_tokens(TEST, stops).tolist() == fitted.extra_tokens(TEST, stops).tolist()
    assert again.parameters == fitted.parameters
    assert (again.promise, again.guarantee) == (fitted.promise, fitted.guarantee)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("level", {}, "'threshold' is missing"),
        ("level", {"threshold": "high"}, "'threshold' is 'high', not a number"),
        ("level", {"threshold": math.nan}, "not a number"),
        ("level", {"threshold": [1.0]}, "must be one number"),
        ("level", {"threshold": 1.0, "lower": 0.0}, "no option 'lower'"),
        ("bonferroni", {"cues": 2, "thresholds": [1.0]}, "must be 2 numbers"),
        ("beta-mixture", {"threshold": 1.0, "weights": [1.0], "a": [1, 1], "b": [1, 1]}, "pairs"),
    ],
)
def test_damaged_parameters_are_refused(name: str, parameters: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        restore(name, parameters)


@pytest.mark.parametrize("name", RULES)
def test_the_promise_says_what_is_promised(name: str) -> None:
    fitted = fit(name)
    kinds = {
        "risk": "at most 0.1 are stopped early with a wrong answer",
        "tokens": "thinking takes at most 500 tokens in the mean",
        "none": "promises nothing",
    }
    assert kinds[fitted.guarantee] in fitted.promise


def test_the_parts_of_alpha_add_up_to_it() -> None:
    terms = Terms("harm", 0.05, "ltt", 0.9)
    upper, lower = terms.part(Fraction(4, 5)), terms.part(Fraction(1, 5))
    assert (upper.alpha, lower.alpha) == (0.04, 0.01)
    assert (upper.confidence, lower.confidence) == (0.92, 0.98)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "sad"}, "loss 'sad' is unknown"),
        ({"alpha": 1.0}, "alpha is 1.0"),
        ({"method": "lynx"}, "choose one of ltt, crc"),
        ({"confidence": 0.0}, "confidence is 0.0"),
        ({"rollouts": "all"}, "choose one of one, worst"),
    ],
)
def test_terms_check_themselves(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Terms(**{"loss": "wrong", "alpha": 0.1} | change)  # type: ignore[arg-type]


# Where each rule stops, by its words.

THRESHOLDS = SCORES | st.sampled_from([-math.inf, math.inf])


def stops_by(table: CueTable, decide: Callable[[Sequence[CueEvent], int], bool]) -> list[int]:
    """Replay a decision that sees the cues so far and the number of the present one."""
    found = []
    for row, trace in enumerate(table.traces()):
        hits = (k for k in range(len(trace.cues)) if decide(trace.cues[: k + 1], k))
        first = next(hits, None)
        found.append(NEVER if first is None else int(table.offsets[row]) + first)
    return found


@given(trace_lists(), THRESHOLDS)
def test_level_stops_at_the_first_score_above(traces: list[Trace], limit: float) -> None:
    table = CueTable.from_traces(traces)
    fitted = restore("level", {"threshold": limit})
    assert fitted.stops(table).tolist() == stops_by(table, lambda seen, k: seen[k].score > limit)


@given(trace_lists(), st.sampled_from([-math.inf, 0.0, 4.0, 11.0, math.inf]))
def test_timer_stops_at_the_first_cue_beyond(traces: list[Trace], limit: float) -> None:
    table = CueTable.from_traces(traces)
    fitted = restore("timer", {"threshold": limit})
    assert fitted.stops(table).tolist() == stops_by(table, lambda seen, k: seen[k].position > limit)


@given(trace_lists(), SCORES)
def test_patience_wants_two_in_a_row(traces: list[Trace], limit: float) -> None:
    table = CueTable.from_traces(traces)
    expected = stops_by(
        table, lambda seen, k: k > 0 and seen[k].score > limit and seen[k - 1].score > limit
    )
    assert restore("patience", {"threshold": limit}).stops(table).tolist() == expected


def test_patience_never_stops_at_a_first_cue_whatever_its_threshold() -> None:
    stops = restore("patience", {"threshold": -math.inf}).stops(TEST)
    assert (stops != TEST.offsets[:-1]).all() and (stops != NEVER).any()


@given(trace_lists(), st.sampled_from([0.05, 0.3, 0.6, 0.9, 0.99, 0.999]))
def test_q_exit_stops_when_the_chance_to_have_left_passes(
    traces: list[Trace], chance: float
) -> None:
    table = CueTable.from_traces(traces)
    limit = -math.log(1 - chance)  # no sum of these scores comes within rounding of it

    def passed(seen: Sequence[CueEvent], k: int) -> bool:
        stay = math.prod(1 - 1 / (1 + math.exp(-cue.score)) for cue in seen)
        return 1 - stay > chance

    fitted = restore("q-exit", {"threshold": limit})
    assert fitted.stops(table).tolist() == stops_by(table, passed)


def test_a_q_exit_score_does_not_depend_on_the_traces_beside_it() -> None:
    rule = make_rule("q-exit")
    together = rule.score(TEST)  # type: ignore[attr-defined]
    for row in (0, 17, 499):
        alone = rule.score(TEST.take([row]))  # type: ignore[attr-defined]
        assert alone.tolist() == together[TEST.offsets[row] : TEST.offsets[row + 1]].tolist()


@given(trace_lists(), THRESHOLDS, THRESHOLDS, st.integers(0, 20))
def test_hopeless_stops_above_the_one_or_late_below_the_other(
    traces: list[Trace], upper: float, lower: float, after: int
) -> None:
    table = CueTable.from_traces(traces)
    numbers = {"share": 0.8, "after": after, "upper": upper, "lower": lower}
    expected = stops_by(
        table,
        lambda seen, k: (
            seen[k].score > upper or (seen[k].score < lower and seen[k].position >= after)
        ),
    )
    assert restore("hopeless", numbers).stops(table).tolist() == expected


@given(trace_lists(), THRESHOLDS, THRESHOLDS, st.sampled_from(["wrong", "disagree", "harm"]))
def test_a_bad_stop_of_the_pair_is_a_bad_stop_of_one_of_them_alone(
    traces: list[Trace], upper: float, lower: float, loss: str
) -> None:
    """The proof in calibration/rules/hopeless.py, trace by trace."""
    table = CueTable.from_traces(traces)
    bad = bad_cues(table, loss)

    def badly(upper: float, lower: float) -> np.ndarray:
        numbers = {"share": 0.8, "after": 5, "upper": upper, "lower": lower}
        stops = restore("hopeless", numbers).stops(table)
        return (stops != NEVER) & np.append(bad, False)[stops]

    assert (badly(upper, lower) <= (badly(upper, -math.inf) | badly(math.inf, lower))).all()


def test_hopeless_thresholds_are_those_of_the_two_scores_alone() -> None:
    fitted = fit("hopeless", share=0.75, after=200)
    upper = fit("level", Terms("wrong", 0.075, confidence=0.925)).threshold
    assert fitted.found["upper"] == upper
    turned = CAL.with_scores(np.where(CAL.positions >= 200, -CAL.scores, F(-1e9)))
    lower = fit("level", Terms("wrong", 0.025, confidence=0.975), turned).found["threshold"]
    assert fitted.found["lower"] == -float(lower)  # type: ignore[arg-type]


@given(trace_lists(), st.lists(THRESHOLDS, min_size=3, max_size=3))
def test_bonferroni_has_a_threshold_for_each_cue_and_none_after(
    traces: list[Trace], limits: list[float]
) -> None:
    table = CueTable.from_traces(traces)
    fitted = restore("bonferroni", {"cues": 3, "thresholds": limits})
    expected = stops_by(table, lambda seen, k: k < 3 and seen[k].score > limits[k])
    assert fitted.stops(table).tolist() == expected


def test_bonferroni_with_one_cue_is_the_level_of_first_cues() -> None:
    first = CAL.with_scores(np.where(np.isin(np.arange(CAL.n_cues), CAL.offsets), CAL.scores, -99))
    assert fit("bonferroni", cues=1).found["thresholds"] == (fit("level", table=first).threshold,)


# Second look.


@st.composite
def looked_traces(draw: st.DrawFn) -> list[Trace]:
    cue = st.tuples(
        SCORES, st.integers(0, 2), st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]), st.integers(1, 9)
    )
    traces = []
    for index in range(draw(st.integers(1, 6))):
        events = [
            CueEvent(10 * (k + 1), score, True, True, repeats if k else 0, confidence, tokens)
            for k, (score, repeats, confidence, tokens) in enumerate(
                draw(st.lists(cue, min_size=1, max_size=6))
            )
        ]
        traces.append(Trace(f"t{index}", f"t{index}", 100, True, tuple(events)))
    return traces


@given(
    looked_traces(),
    st.sampled_from([-1.0, 0.0, 0.3, 1.0, 2.7]),
    st.sampled_from([0.1, 0.5, 1.0, 3.0]),
    st.sampled_from(["repeats", "confidence", "both"]),
)
@settings(max_examples=200)
def test_a_second_look_is_taken_only_where_it_can_matter(
    traces: list[Trace], limit: float, delta: float, signal: str
) -> None:
    """One that looks lazily, inside the window alone, stops at the same cues, and pays the same."""
    table = CueTable.from_traces(traces)
    limit = float(F(limit))
    stops, paid = [], []
    for row, trace in enumerate(table.traces()):
        stop, answered = NEVER, set()
        for k, cue in enumerate(trace.cues):
            score, width = F(cue.score), F(delta)
            if score - width > limit:
                passes = True
            elif score + width <= limit:
                passes = False
            else:
                repeats = F(0) if k == 0 else F(1 if cue.repeats else -1)
                confident = F(2) * F(cue.confidence) - F(1)
                if signal != "repeats" or k > 0:
                    answered.add(k)
                if signal != "confidence" and k > 0:
                    answered.add(k - 1)
                opinions = {
                    "repeats": repeats,
                    "confidence": confident,
                    "both": (repeats + confident) / F(2),
                }
                passes = bool(score + width * opinions[signal] > limit)
            if passes:
                stop = int(table.offsets[row]) + k
                break
        stops.append(stop)
        paid.append(sum(trace.cues[k].answer_tokens or 0 for k in answered))
    fitted = restore("second-look", {"delta": delta, "signal": signal, "threshold": limit})
    found = fitted.stops(table)
    assert found.tolist() == stops
    assert fitted.extra_tokens(table, found).tolist() == paid


@pytest.mark.parametrize(
    ("field", "signal"),
    [("repeats", "repeats"), ("confidences", "confidence"), ("tokens", "repeats")],
)
def test_unknown_looks_are_refused_with_the_remedy(field: str, signal: str) -> None:
    looks = CAL.looks
    assert looks is not None
    columns = {name: getattr(looks, name).copy() for name in ("repeats", "confidences", "tokens")}
    columns[field][3] = np.nan if field == "confidences" else -1
    partly = dataclasses.replace(CAL, looks=dataclasses.replace(looks, **columns))
    unlooked = dataclasses.replace(CAL, looks=None)
    for table in (partly, unlooked):
        with pytest.raises(InputError, match=r"is unknown\. Collect the traces again"):
            fit("second-look", table=table, signal=signal)


def test_a_signal_asks_only_for_what_it_uses() -> None:
    looks = CAL.looks
    assert looks is not None
    blind = dataclasses.replace(looks, confidences=np.full_like(looks.confidences, np.nan))
    assert fit("second-look", table=dataclasses.replace(CAL, looks=blind), signal="repeats").found


# Budget.


@given(trace_lists())
def test_the_tokens_at_every_threshold_are_those_of_the_replay(traces: list[Trace]) -> None:
    table = CueTable.from_traces(traces)
    if table.n_cues == 0:
        return
    limits, totals = tokens_by_threshold(table)
    assert limits[0] == -np.inf and limits[-1] == np.inf and (np.diff(totals) >= 0).all()

    def total(limit: float) -> int:
        stops = threshold_stops(table, limit)
        at = np.append(table.positions, 0)[stops]
        return int(np.where(stops == NEVER, table.tokens, at).sum())

    for index, limit in enumerate(limits):
        assert totals[index] == total(float(limit))
        if index + 1 < len(limits):  # and constant up to just before the next
            assert totals[index] == total(float(np.nextafter(limits[index + 1], F(-np.inf))))


def test_a_budget_takes_the_highest_threshold_that_it_allows() -> None:
    fitted = fit("budget", tokens=500, longest=4000)
    limits, totals = tokens_by_threshold(CAL)
    chosen = int(np.flatnonzero(limits == F(fitted.found["threshold"]))[0])  # type: ignore[arg-type]
    assert (totals[chosen] + 4000) / 1001 <= 500 < (totals[chosen + 1] + 4000) / 1001
    plain = int(np.flatnonzero(limits == F(fitted.found["plain_threshold"]))[0])  # type: ignore[arg-type]
    assert totals[plain] / 1000 <= 500 < totals[plain + 1] / 1000
    assert plain > chosen


def test_the_risk_of_a_budget_is_the_observed_one_and_its_band() -> None:
    fitted = fit("budget", tokens=500, longest=4000)
    stops = fitted.stops(CAL)
    seen = ((stops != NEVER) & np.append(bad_cues(CAL, "wrong"), False)[stops]).mean()
    band = math.sqrt(math.log(10) / 2000)
    bound = float(fitted.found["risk_bound"])  # type: ignore[arg-type]
    # x_i above the threshold is at least as frequent as a bad stop, and not much more so.
    assert seen + band <= bound <= seen + band + 0.05
    assert f"at most {bound:.4g} are stopped early with a wrong answer" in fitted.promise


def test_a_budget_beyond_the_full_traces_never_stops() -> None:
    assert fit("budget", tokens=5000, longest=6000).threshold == math.inf


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": 500, "longest": 100}, "longest is 100, but a calibration trace has"),
        ({"tokens": 10, "longest": 4000}, r"takes \d+\.\d on average, .* larger budget\.$"),
        ({"tokens": 73, "longest": 1e6}, "larger budget, or more calibration traces"),
    ],
)
def test_a_budget_that_cannot_be_promised_is_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit("budget", **options)
    with pytest.raises(InputError, match="one rollout drawn for each"):
        fit("budget", Terms("wrong", 0.1, rollouts="worst"))
    with pytest.raises(InputError, match=r"needs at least 0\.5"):
        fit("budget", Terms("wrong", 0.1, confidence=0.4))


# The fixed sequence for scores that rise along a trace.


@given(trace_lists(min_size=1, max_size=8), st.sampled_from(["wrong", "harm"]))
def test_stand_ins_are_the_lowest_thresholds_with_so_many_bad_stops(
    traces: list[Trace], loss: str
) -> None:
    """Checked against the replay at every threshold from the highest down."""
    table = CueTable.from_traces(traces)
    bad = bad_cues(table, loss)
    units = sequential_scores(table, table.scores, bad)
    assert len(units) == len(table) and (units[1:] >= units[:-1]).all()
    limits = np.append(np.unique(table.scores)[::-1], F(-np.inf))
    counts = []
    for limit in limits:
        stops = threshold_stops(table, limit)
        counts.append(int((np.append(bad, False)[stops] & (stops != NEVER)).sum()))
    for k in range(len(table)):
        lowest = F(np.inf)
        for limit, count in zip(limits, counts, strict=True):
            if count > k:
                break
            lowest = limit
        # Between two scores nothing changes: compare what the two thresholds stop.
        found = units[len(table) - 1 - k]
        same = threshold_stops(table, found) == threshold_stops(table, lowest)
        assert same.all()


@pytest.mark.parametrize("name", ["timer", "q-exit"])
def test_a_rising_score_is_calibrated_by_its_bad_stops_and_never_more_careful(name: str) -> None:
    rule = make_rule(name)
    for loss in ("wrong", "harm", "disagree"):
        sharp = rule.fit(CAL, Terms(loss, 0.1))
        plain, _ = trace_threshold(CAL, rule.score(CAL), Terms(loss, 0.1))  # type: ignore[attr-defined]
        assert sharp.threshold is not None and sharp.threshold <= plain
        assert (
            rule.fit(CAL, Terms(loss, 0.1, "crc")).threshold
            == (
                trace_threshold(CAL, rule.score(CAL), Terms(loss, 0.1, "crc"))[0]  # type: ignore[attr-defined]
            )
        )
    assert sharp.threshold < plain


# Rules without a guarantee.


def test_a_mixture_of_two_beta_densities_is_recovered() -> None:
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.beta(2.0, 8.0, 6000), rng.beta(9.0, 2.0, 4000)])
    weights, a, b = fit_mixture(p)
    assert weights == pytest.approx([0.6, 0.4], abs=0.02)
    assert a == pytest.approx([2.0, 9.0], rel=0.1)
    assert b == pytest.approx([8.0, 2.0], rel=0.1)


def test_the_mixture_needs_no_label_at_all() -> None:
    unknown = np.full(CAL.n_cues, -1, dtype=np.int8)
    unlabelled = dataclasses.replace(CAL, correct=unknown, agrees=unknown)
    assert fit("beta-mixture", table=unlabelled).found == fit("beta-mixture").found


def test_mapies_sets_are_one_threshold() -> None:
    bad = bad_cues(CAL, "wrong")
    classifier = MapiePerCue(CAL.scores[~bad], CAL.scores[bad], 0.1)
    limit = F(lowest_passing(classifier))
    around = np.array([np.nextafter(limit, F(-9)), limit, np.nextafter(limit, F(9))], dtype=F)
    assert classifier.passes(around).tolist() == [False, False, True]
    assert (classifier.passes(TEST.scores) == (TEST.scores > limit)).all()


def test_hopeless_saves_where_traces_that_end_wrong_look_it() -> None:
    """A third of the traces never gets right, thinks longest, and scores low all along."""
    rng = np.random.default_rng(5)

    def draw(name: str) -> Trace:
        lost = rng.random() < 1 / 3
        n = 20 if lost else 6
        rising = np.linspace(-4, 5, n)
        scores = np.full(n, -8.0) if lost else rising
        cues = tuple(
            CueEvent(100 * (k + 1), float(score + rng.normal()), bool(score > 0), True)
            for k, score in enumerate(scores)
        )
        return Trace(name, name, 100 * (n + 1), not lost, cues)

    cal, test = (
        CueTable.from_traces([draw(f"{part}{i}") for i in range(1000)]) for part in ("c", "t")
    )

    def spent(name: str) -> float:
        stops = fit(name, Terms("harm", 0.05), cal).stops(test)
        assert np.append(bad_cues(test, "harm"), False)[stops].mean() <= 0.05
        return float(np.where(stops == NEVER, test.tokens, test.positions[stops]).mean())

    assert spent("hopeless") < 0.5 * spent("level")
