"""What is measured of sentences, against a slow reading of the definitions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.sentence_features import (
    FEATURES,
    RELATED,
    RELATIONS,
    SIGNALS,
    PassageView,
    QueryView,
    features,
    rarity,
    relations,
    signals,
    unit,
)


def vectors(rng: np.random.Generator, count: int, width: int = 6) -> np.ndarray:
    return unit(rng.normal(size=(count, width)).astype(np.float32))


def query(rng: np.random.Generator, count: int) -> QueryView:
    weights = rng.random(count).astype(np.float32)
    return QueryView(
        vectors(rng, 1)[0],
        rng.integers(0, 9, count),
        vectors(rng, count),
        weights / weights.sum(),
        rng.random(count) < 0.3,
    )


def passage(rng: np.random.Generator, lengths: list[int]) -> PassageView:
    bounds = np.cumsum([0, *lengths])
    inner = vectors(rng, int(bounds[-1]))
    means = [inner[a:b].mean(axis=0) if b > a else np.zeros(6) for a, b in _stretches(bounds)]
    table = np.array(means, dtype=np.float32).reshape(len(lengths), 6)
    pieces = rng.integers(0, 9, int(bounds[-1]))
    return PassageView(
        rng.integers(0, 9, 2), pieces, inner, bounds, unit(table), vectors(rng, 1)[0]
    )


def _stretches(bounds: np.ndarray) -> list[tuple[int, int]]:
    return list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))


shapes = st.lists(st.integers(0, 5), max_size=6)


@settings(deadline=None, max_examples=60)
@given(shapes, st.integers(1, 5), st.integers(0, 99))
def test_signals_are_what_they_are_called(lengths: list[int], asked: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    question, document = query(rng, asked), passage(rng, lengths)
    table = signals(question, document)
    assert table.shape == (len(lengths), len(SIGNALS))
    pieces = question.pieces.tolist()
    pairs = set(pairwise(pieces))
    for row, (start, end) in zip(table, _stretches(document.bounds), strict=True):
        named = dict(zip(SIGNALS, row.tolist(), strict=True))
        inside, own = document.vectors[start:end], document.pieces[start:end].tolist()
        best = [max((float(one @ v) for one in inside), default=0.0) for v in question.vectors]
        weights = question.weights.tolist()
        assert named["match"] == pytest.approx(float(np.dot(weights, best)), abs=1e-5)
        there = [float(piece in own) for piece in pieces]
        assert named["overlap"] == pytest.approx(float(np.dot(weights, there)), abs=1e-5)
        assert named["length"] == pytest.approx(np.log1p(end - start), abs=1e-5)
        hit = pairs & set(pairwise(own))
        assert named["pairs"] == pytest.approx(len(hit) / max(len(pairs), 1), abs=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 4), max_size=5), st.integers(0, 99))
def test_relations_compare_with_the_document_and_with_all(counts: list[int], seed: int) -> None:
    total = sum(counts)
    if not total:
        return
    rng = np.random.default_rng(seed)
    value = rng.integers(0, 4, total).astype(np.float32)
    found = relations(value[:, None], counts)
    home = np.repeat(np.arange(len(counts)), counts)
    for at in range(total):
        named = dict(zip(RELATIONS, found[at].tolist(), strict=True))
        local = max(value[home == home[at]])
        assert named["gap"] == max(value) - value[at]
        assert named["gap_here"] == local - value[at]
        assert named["gap_of_document"] == max(value) - local
        assert named["rank"] == pytest.approx(np.log1p((value > value[at]).sum()))


def test_documents_come_back_one_table_each_even_those_without_sentences() -> None:
    rng = np.random.default_rng(0)
    documents = [passage(rng, lengths) for lengths in ([], [3, 2], [0], [4])]
    tables = features(query(rng, 4), documents)
    assert [table.shape for table in tables] == [(n, len(FEATURES)) for n in (0, 2, 1, 1)]
    assert all(np.isfinite(table).all() for table in tables)
    assert features(query(rng, 4), [passage(rng, [])])[0].shape == (0, len(FEATURES))
    assert features(query(rng, 4), []) == []


def test_a_piece_in_every_sentence_tells_nothing_and_one_in_none_most() -> None:
    rng = np.random.default_rng(1)
    document = passage(rng, [2, 2])
    document.pieces[:] = [1, 2, 1, 3]
    question = query(rng, 3)
    question.pieces[:] = [1, 2, 8]
    assert rarity(question, [document]) == pytest.approx([0, np.log(1.5) / np.log(3), 1])


def test_every_feature_has_a_name_of_its_own() -> None:
    assert len(set(FEATURES)) == len(SIGNALS) + len(RELATED) * len(RELATIONS)
    assert set(RELATED) <= set(SIGNALS)
