"""What is measured of a sentence, given a question and the documents around it. Numpy alone.

A document comes as the vectors of its pieces in context (late chunking: it is read once as a whole,
and a sentence is a stretch of it). Each sentence gets its *signals*, from its own document; then
the telling ones are put in relation to the others of the document and of all documents scored
together, for a needed sentence is one that fits better than its rivals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Pieces = npt.NDArray[np.int64]

VERSION = "1"
"""Changes with the meaning or the number of the features; a head fits one version."""

SIGNALS = (
    "cosine", "cosine_before", "cosine_after", "cosine_document",
    "match", "match_plain", "match_open", "unmatched", "match_asking",
    "overlap", "overlap_open", "overlap_before", "overlap_after", "overlap_document",
    "overlap_title", "pairs", "length", "place", "first", "last", "count",
)  # fmt: skip
RELATED = ("cosine", "cosine_document", "match", "match_open", "overlap", "overlap_open")
RELATIONS = ("gap", "deviation", "rank", "gap_here", "gap_of_document")
FEATURES = (*SIGNALS, *(f"{name}.{relation}" for name in RELATED for relation in RELATIONS))

WEAK = 0.5
"""A piece of the question whose best cosine in a sentence is below this counts as unmatched."""


@dataclass(frozen=True, eq=False)
class QueryView:
    """A question as the features read it.

    Attributes
    ----------
    vector
        float32 [d], unit: the mean over its pieces.
    pieces
        int64 [m], at least one.
    vectors
        float32 [m, d], unit rows.
    weights
        float32 [m], how telling each piece is, 0 for punctuation; sums to 1.
    asking
        bool [m], true for words such as who, when, where.

    """

    vector: FloatArray
    pieces: Pieces
    vectors: FloatArray
    weights: FloatArray
    asking: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PassageView:
    """A document as the features read it.

    Attributes
    ----------
    title
        int64, pieces of the title.
    pieces
        int64 [n], of all sentences.
    vectors
        float32 [n, d], unit rows.
    bounds
        int64 [n_sentences + 1]: sentence k is pieces bounds[k]:bounds[k + 1]; may be empty.
    means
        float32 [n_sentences, d], unit: the mean over a sentence's pieces; zeros for an empty one.
    mean
        float32 [d], unit: of the document.

    """

    title: Pieces
    pieces: Pieces
    vectors: FloatArray
    bounds: npt.NDArray[np.int64]
    means: FloatArray
    mean: FloatArray


def unit(vectors: FloatArray) -> FloatArray:
    """Scale rows to length 1; zeros stay zeros."""
    length = np.sqrt((vectors * vectors).sum(axis=-1, keepdims=True))
    scaled: FloatArray = vectors / np.maximum(length, np.float32(1e-9))
    return scaled


def features(query: QueryView, passages: Sequence[PassageView]) -> list[FloatArray]:
    """Measure all sentences of documents that are scored together.

    Parameters
    ----------
    query
        Its weights say what may count at all; how much is settled by :func:`rarity`.
    passages
        The documents.

    Returns
    -------
    list of float32 [n_sentences, len(FEATURES)]
        One array per passage, all finite.

    """
    asked = replace(query, weights=_share(query.weights * rarity(query, passages), query.weights))
    parts = [signals(asked, passage) for passage in passages]
    counts = [len(part) for part in parts]
    if not sum(counts):
        return [np.zeros((0, len(FEATURES)), np.float32) for _ in parts]
    table = np.concatenate(parts)
    ends = np.cumsum(counts)
    related = relations(table[:, [SIGNALS.index(name) for name in RELATED]], counts)
    return list(np.split(np.concatenate([table, related], axis=1), ends[:-1]))


def signals(query: QueryView, passage: PassageView) -> FloatArray:
    """Measure the sentences of one document by themselves.

    Returns
    -------
    float32 [n_sentences, len(SIGNALS)]

    """
    count = len(passage.bounds) - 1
    best = _by_sentence(query.vectors @ passage.vectors.T, passage.bounds)
    exact = _by_sentence(_equal(query, passage), passage.bounds)
    weights = query.weights
    in_title = np.isin(query.pieces, passage.title).astype(np.float32)
    # What the title does not already answer for: in an article on X every sentence is about X.
    open_weights = _share(weights * (1 - in_title), np.zeros_like(weights))
    cosine = passage.means @ query.vector
    overlap = exact @ weights
    asking = best[:, query.asking].max(axis=1) if query.asking.any() else np.zeros(count)
    place = np.arange(count)
    columns = (
        cosine,
        _before(cosine),
        _after(cosine),
        np.full(count, passage.mean @ query.vector),
        best @ weights,
        best.mean(axis=1),
        best @ open_weights,
        (best < WEAK) @ weights,
        asking,
        overlap,
        exact @ open_weights,
        _before(overlap),
        _after(overlap),
        np.full(count, (exact.max(axis=0) if count else exact.sum(axis=0)) @ weights),
        np.full(count, in_title @ weights),
        _pairs(query.pieces, passage),
        np.log1p(np.diff(passage.bounds)),
        place / max(count - 1, 1),
        place == 0,
        place == count - 1,
        np.full(count, np.log1p(count)),
    )
    return np.stack(columns, axis=1).astype(np.float32)


def rarity(query: QueryView, passages: Sequence[PassageView]) -> FloatArray:
    """Measure how rare each piece of a question is among the sentences at hand.

    Returns
    -------
    float32 [m]
        1 for a piece in no sentence, 0 for one in all: ``log((n + 1) / (df + 1)) / log(n + 1)``.

    """
    count, found = 0, np.zeros(len(query.pieces))
    for passage in passages:
        found += _by_sentence(_equal(query, passage), passage.bounds).sum(axis=0)
        count += len(passage.bounds) - 1
    rare = np.log((count + 1) / (found + 1)) / np.log(count + 1) if count else np.ones_like(found)
    return rare.astype(np.float32)


def relations(values: FloatArray, counts: Sequence[int]) -> FloatArray:
    """Compare each sentence with the others.

    Parameters
    ----------
    values
        float32 [n, k], n at least 1: signals of the sentences of all documents, document by
        document.
    counts
        Sentences of each document; sum to n.

    Returns
    -------
    float32 [n, k * len(RELATIONS)]
        Per signal: how far below the best of all; deviations above the mean; log(1 + number of
        better ones); how far below the best of its document; how far that is below the best of all.

    """
    starts = np.cumsum([0, *counts])
    here = np.empty_like(values)
    for start, end in pairwise(starts):
        if end > start:
            here[start:end] = values[start:end].max(axis=0)
    best = values.max(axis=0)
    columns = []
    for column in range(values.shape[1]):
        value, local = values[:, column], here[:, column]
        better = len(value) - np.searchsorted(np.sort(value), value, side="right")
        columns += [
            best[column] - value,
            (value - value.mean()) / (value.std() + np.float32(1e-3)),
            np.log1p(better),
            local - value,
            best[column] - local,
        ]
    return np.stack(columns, axis=1).astype(np.float32)


def _equal(query: QueryView, passage: PassageView) -> FloatArray:
    same: FloatArray = (query.pieces[:, None] == passage.pieces[None, :]).astype(np.float32)
    return same


def _share(weights: FloatArray, otherwise: FloatArray) -> FloatArray:
    """Scale weights to sum 1; `otherwise` where there is nothing to scale."""
    total = float(weights.sum())
    return weights / np.float32(total) if total > 1e-6 else otherwise


def _by_sentence(table: FloatArray, bounds: npt.NDArray[np.int64]) -> FloatArray:
    """Take the maximum over each sentence: [m, n pieces] to [n_sentences, m]; 0 where empty."""
    found = np.zeros((len(bounds) - 1, len(table)), np.float32)
    filled = np.flatnonzero(np.diff(bounds) > 0)
    if filled.size:
        # Sentences tile the pieces, so that the starts of those that have any are their ends too.
        found[filled] = np.maximum.reduceat(table, bounds[filled], axis=1).T
    return found


def _pairs(query: Pieces, passage: PassageView) -> FloatArray:
    """Give the share of the question's neighbouring pieces that are neighbours in a sentence."""
    found = np.zeros(len(passage.bounds) - 1, np.float32)
    if len(query) < 2 or len(passage.pieces) < 2:
        return found
    asked = np.unique(query[:-1] << 32 | query[1:])
    hit = np.isin(passage.pieces[:-1] << 32 | passage.pieces[1:], asked)
    for index, (start, end) in enumerate(pairwise(passage.bounds)):
        # Distinct pairs: a phrase that is repeated counts once.
        places = np.flatnonzero(hit[start : max(start, end - 1)]) + start
        if places.size:
            pairs = passage.pieces[places] << 32 | passage.pieces[places + 1]
            found[index] = len(np.unique(pairs)) / len(asked)
    return found


def _before(values: FloatArray) -> FloatArray:
    return np.concatenate([np.zeros(min(1, len(values)), values.dtype), values[:-1]])


def _after(values: FloatArray) -> FloatArray:
    return np.concatenate([values[1:], np.zeros(min(1, len(values)), values.dtype)])
