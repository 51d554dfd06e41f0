"""The rivals' rules, fed token by token, without an engine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from engine_simulator import THINK, automaton, ids, tokenizer
from hypothesis import given
from hypothesis import strategies as st

from adapters.vllm.baselines import budget, deer, dynasor, eat, nowait, thinkbrake
from adapters.vllm.baselines.policy import Stop, Trial, Tried, answer_logprobs, entropy
from adapters.vllm.baselines.vocabulary import SentenceEnds, Vocabulary
from calibration.answers import same_answer

VOCABULARY = Vocabulary(tokenizer())
answers = st.lists(st.sampled_from(["1", "2", None]), max_size=30)
lengths = st.lists(st.integers(0, 60), min_size=1, max_size=20)


def feed(policy: Any, text: str) -> list[tuple[int, Any]]:
    """Return (tokens seen, move) for every move."""
    moves = [(at, policy.on_token(token, {})) for at, token in enumerate(ids(text), start=1)]
    return [(at, move) for at, move in moves if move is not None]


def tried(answer: str | None, *logprobs: float, position: int = 9, **fields: Any) -> Tried:
    texts = fields.pop("texts", [answer or ""] * len(logprobs))
    return Tried(position, texts, logprobs, answer, **fields)


# What an answer's tokens are, and how sure they are


def test_only_the_tokens_of_the_answer_count() -> None:
    texts, logprobs = ["so ", "\\boxed{", "1", "2", "}"], [-5.0, -4.0, -3.0, -2.0, -1.0]
    assert answer_logprobs(Tried(0, texts, logprobs, "12")) == [-3.0, -2.0]
    assert answer_logprobs(Tried(0, texts, logprobs, None)) == []


def test_an_answer_split_within_a_character_counts_as_a_whole() -> None:
    assert answer_logprobs(Tried(0, ["\ufffd", "\ufffd"], [-1.0, -2.0], "é")) == [-1.0, -2.0]


def test_entropy_of_known_distributions() -> None:
    assert entropy({1: 0.0}) == 0.0
    assert entropy({n: math.log(0.25) for n in range(4)}) == pytest.approx(math.log(4))
    # What the alternatives leave over is one more token.
    assert entropy({1: math.log(0.5)}) == pytest.approx(math.log(2))


# DEER


def new_deer(**changes: Any) -> deer.Deer:
    return deer.Deer(automaton(), VOCABULARY, [THINK], deer.Parameters(**changes))


@pytest.mark.parametrize("cue", [" Wait", " hmm", " Alternatively"])  # the last is two tokens
def test_deer_tries_before_each_cue(cue: str) -> None:
    text = f"So the number is even.{cue}, so the number is odd.{cue}"
    ((first, one), (second, two)) = feed(new_deer(), text)
    width = len(ids(cue))
    assert (one, two) == (Trial(first - width, 20), Trial(second - width, 20))


def test_deer_looks_at_no_cue_outside_of_the_thinking() -> None:
    assert feed(new_deer(), "So.</think> Wait, wait") == []


def test_deer_stops_where_the_geometric_mean_passes() -> None:
    policy = new_deer(confidence=0.8)
    assert policy.on_trial(tried("7", math.log(0.81), position=4)) == Stop(4)
    assert policy.on_trial(tried("7", math.log(0.8), position=4)) is None
    # The arithmetic mean of 1 and 0.62 is 0.81, the geometric one 0.787.
    two = tried("77", 0.0, math.log(0.62), texts=["7", "7"])
    assert policy.on_trial(two) is None


def test_deer_does_not_stop_without_an_answer() -> None:
    assert new_deer().on_trial(tried(None, 0.0)) is None


# Dynasor


def test_dynasor_tries_at_every_interval() -> None:
    policy = dynasor.Dynasor(same_answer, dynasor.Parameters(interval=4))
    assert feed(policy, " so" * 9) == [(4, Trial(4, 20)), (8, Trial(8, 20))]


@given(answers, st.integers(1, 5))
def test_dynasor_stops_at_the_first_full_window_of_equal_answers(
    given_answers: list[str | None], window: int
) -> None:
    policy = dynasor.Dynasor(same_answer, dynasor.Parameters(window=window))
    found = next(
        (at for at, a in enumerate(given_answers) if policy.on_trial(tried(a)) is not None), None
    )
    windows = [given_answers[max(0, at + 1 - window) : at + 1] for at in range(len(given_answers))]
    expected = next(
        (
            at
            for at, last in enumerate(windows)
            if len(last) == window and None not in last and len(set(last)) == 1
        ),
        None,
    )
    assert found == expected


def test_a_trial_that_hesitates_does_not_count_for_dynasor() -> None:
    policy = dynasor.Dynasor(same_answer, dynasor.Parameters(window=2))
    assert policy.on_trial(tried("7", 0.0)) is None
    assert policy.on_trial(tried("7", 0.0, 0.0, texts=["7}", " Wait"])) is None
    assert policy.on_trial(tried("7", 0.0)) is None
    assert policy.on_trial(tried("7", 0.0)) == Stop(9)


# EAT


@given(
    st.lists(st.floats(0.05, 0.95), min_size=1, max_size=30),
    st.floats(0.05, 0.9),
    st.floats(1e-4, 0.2),
    st.integers(1, 6),
)
def test_eat_stops_where_the_moving_variance_has_settled(
    shares: list[float], timescale: float, threshold: float, warm_up: int
) -> None:
    parameters = eat.Parameters(timescale, threshold, warm_up)
    policy = eat.Eat(SentenceEnds(VOCABULARY), parameters)
    looks = [tried(None, first={1: math.log(p), 2: math.log(1 - p)}) for p in shares]
    found = next((at for at, look in enumerate(looks) if policy.on_trial(look) is not None), None)

    values = np.array([entropy(look.first) for look in looks])
    weights = np.array([timescale * (1 - timescale) ** n for n in range(len(values))])
    # The moving averages, written out as sums over the past.
    means = [
        (1 - timescale) ** at * values[0] + np.dot(weights[:at], values[at:0:-1])
        for at in range(len(values))
    ]
    squares = (values - means) ** 2
    variances = [np.dot(weights[: at + 1], squares[at::-1]) for at in range(len(values))]
    expected = next(
        (at for at, v in enumerate(variances) if at + 1 > warm_up and v < threshold * (1 - 1e-9)),
        None,
    )
    close = any(abs(v - threshold) < 1e-9 for v in variances)
    assert found == expected or close


def test_eat_looks_once_at_each_sentence_end() -> None:
    policy = eat.Eat(SentenceEnds(VOCABULARY), eat.Parameters())
    text = "So the number is even.\n\n So the number is odd."
    moves = feed(policy, text)
    assert [at for at, _ in moves] == [
        at for at, token in enumerate(ids(text), 1) if VOCABULARY.text(token) == "."
    ]
    assert all(move == Trial(at, 1, 20) for at, move in moves)


# ThinkBrake


@pytest.mark.parametrize(
    ("alternatives", "stops"),
    [
        ({5: -0.1, 99: -1.0}, True),
        ({5: -0.1, 99: -1.2}, False),
        ({99: -0.1, 5: -3.0}, True),  # the end itself is the likeliest
        ({5: -0.1}, False),  # not even among the alternatives
        ({}, False),
    ],
)
def test_thinkbrake_reads_the_margin_after_a_sentence(
    alternatives: dict[int, float], stops: bool
) -> None:
    full_stop = ids("So.")[-1]
    policy = thinkbrake.ThinkBrake(VOCABULARY.sentence_ends, 99, thinkbrake.Parameters(1.0))
    near = {5: -0.1, 99: -0.1}
    assert policy.on_token(ids(" so")[0], near) is None  # nothing has ended yet
    assert policy.on_token(full_stop, near) is None
    assert policy.on_token(ids(" so")[0], alternatives) == (Stop(2) if stops else None)


# The token budget


@given(lengths, st.floats(0, 80))
def test_no_budget_comes_closer_to_the_mean_than_the_chosen_one(
    full: list[int], tokens: float
) -> None:
    def distance(cap: int) -> float:
        return abs(float(np.mean(np.minimum(full, cap))) - tokens)

    found = budget.matching(full, tokens)
    assert found >= 1
    assert distance(found) <= min(distance(cap) for cap in range(1, 62)) + 1e-9


def test_the_budget_stops_at_its_token() -> None:
    policy = budget.Budget(3)
    assert feed(policy, " so so so")[0] == (3, Stop(3))


# NoWait and the vocabulary


def test_nowait_forbids_the_words_and_what_begins_them() -> None:
    bias = nowait.plan(VOCABULARY, automaton().spec.words).changes["logit_bias"]
    texts = {VOCABULARY.text(token) for token in bias}
    assert {" Wait", "wait", " hmm", " Altern"} <= texts
    assert not texts & {" await", " the", ".", "", " number", " answer", " double"}
    assert set(bias.values()) == {-100.0}


@given(st.integers(-5, 2000))
def test_any_token_has_a_text(token: int) -> None:
    assert isinstance(VOCABULARY.text(token), str)
