"""Thresholds on sentences: what is lost, what is spared, which documents a question comes with."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from relevance_makers import hotpot_file, squad_file
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from calibration.dropping import (
    ScoredQuery,
    auroc,
    drop_at,
    drop_at_recall,
    dropping_promise,
    interval,
    require_queries,
    worst_scores,
)
from calibration.mixing import Mix, Mixer
from calibration.questions import read_questions
from calibration.redrawing import repeat
from probes.errors import InputError, TooFewTraces

numbers = st.floats(-5, 5, width=16)


@st.composite
def queries(draw: st.DrawFn) -> ScoredQuery:
    drop = np.array(draw(st.lists(numbers, min_size=1, max_size=8)), dtype=np.float32)
    needed = np.array(draw(st.lists(st.booleans(), min_size=len(drop), max_size=len(drop))))
    needed[draw(st.integers(0, len(drop) - 1))] = True
    return ScoredQuery(drop, needed, np.arange(1, len(drop) + 1), "g")


@settings(deadline=None)
@given(st.lists(queries(), min_size=1, max_size=8), numbers)
def test_what_a_threshold_does_is_counted_as_one_would_by_hand(
    some: list[ScoredQuery], limit: float
) -> None:
    found = drop_at(some, limit)
    cut = np.float32(limit)
    pairs = [
        (drop > cut, needed, tokens)
        for query in some
        for drop, needed, tokens in zip(query.drop, query.needed, query.tokens, strict=True)
    ]
    assert found.hurt == sum(any(d > cut for d in q.drop[q.needed]) for q in some)
    assert found.hurt == int((worst_scores(some) > cut).sum())
    assert found.kept == sum(bool(n and not gone) for gone, n, _ in pairs)
    assert found.tokens_out == sum(int(t) for gone, _, t in pairs if not gone)
    assert (found.sentences_in, found.queries) == (len(pairs), len(some))


@settings(deadline=None)
@given(st.lists(queries(), min_size=1, max_size=8))
def test_the_area_is_that_of_scikit_learn(some: list[ScoredQuery]) -> None:
    needed = np.concatenate([query.needed for query in some])
    drop = np.concatenate([query.drop for query in some])
    if needed.all():
        assert auroc(some) is None
    else:
        assert auroc(some) == pytest.approx(roc_auc_score(needed, -drop))


@settings(deadline=None)
@given(st.lists(queries(), min_size=1, max_size=8), st.floats(0.01, 1))
def test_a_threshold_by_recall_reaches_it(some: list[ScoredQuery], recall: float) -> None:
    assert drop_at_recall(some, recall).recall >= recall - 1e-9


def test_no_threshold_drops_nothing_and_the_lowest_everything() -> None:
    query = ScoredQuery(np.float32([1, 2]), np.array([True, False]), np.array([3, 4]), "g")
    assert drop_at([query], math.inf).tokens_out == 7
    assert drop_at([query], -math.inf).tokens_out == 0
    assert drop_at([query], 1.0).tokens_out == 3  # equal is kept
    with pytest.raises(InputError, match="no query"):
        drop_at([], 0.0)


@pytest.mark.parametrize(("hurt", "of"), [(0, 10), (3, 10), (10, 10)])
def test_the_interval_is_clopper_and_pearsons(hurt: int, of: int) -> None:
    exact = binomtest(hurt, of).proportion_ci(0.95, "exact")
    assert interval(hurt, of) == pytest.approx((exact.low, exact.high))


def test_too_few_queries_are_refused_with_the_number_missing() -> None:
    with pytest.raises(TooFewTraces, match=r"needs at least 45, so 5 more"):
        require_queries(40, "ltt", 0.05, 0.9)
    require_queries(45, "ltt", 0.05, 0.9)


def test_repeats_want_enough_queries_and_at_least_one() -> None:
    query = ScoredQuery(np.float32([1]), np.array([True]), np.array([3]), "g")
    with pytest.raises(TooFewTraces, match="so 12 more"):
        repeat([query] * 20, 0.1, "ltt", 0.9, 3)
    with pytest.raises(InputError, match="at least 1"):
        repeat([query] * 90, 0.1, "ltt", 0.9, 0)


def test_the_promise_says_what_it_is_not() -> None:
    text = dropping_promise(0.05, "ltt", 0.9, 540)
    assert "540" in text
    assert "at most 0.05" in text
    assert "not under another encoder" in text
    assert "on average" in dropping_promise(0.05, "crc", 0.9, 540)


def test_distractors_are_drawn_by_question_and_seed_from_its_own_split(tmp_path: Path) -> None:
    found = read_questions([squad_file(tmp_path / "a.json", 6)], "squad")
    chosen = [q for q in found.questions if found.titles(q)[0] in ("Article_0", "Article_1")]
    mixer = Mixer(found, chosen)
    question = chosen[0]
    documents = mixer.documents(question, Mix(2, 2))
    titles = [found.paragraphs[index].title for index in documents]
    assert sorted(titles) == ["Article_0"] * 3 + ["Article_1"] * 2
    assert question.needed[0][0] in documents
    assert documents == Mixer(found, chosen).documents(question, Mix(2, 2))
    assert set(documents) <= mixer.reach(question)
    assert len(mixer.documents(question, Mix(9, 9))) == 6  # no more than there are
    orders = {tuple(mixer.documents(question, Mix(2, 2), seed)) for seed in range(8)}
    assert len(orders) > 1


def test_what_the_data_presents_together_stays_together(tmp_path: Path) -> None:
    found = read_questions([hotpot_file(tmp_path / "h.json", 3)], "hotpotqa")
    mixer = Mixer(found, found.questions)
    assert mixer.documents(found.questions[0], Mix(2, 2)) == [0, 1, 2]


def test_a_negative_number_of_distractors_is_refused() -> None:
    with pytest.raises(InputError, match="-1 hard"):
        Mix(-1, 2)
