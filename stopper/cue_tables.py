"""The thinking span around the letter automaton, and the checks of the finished tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stopper.cue_spec import CueSpec
from stopper.errors import ArtifactError

NEUTRAL_CLASS = 0  # control tokens and ids beyond the vocabulary: no letters, no cue
DTYPES = {
    "token_class": np.int32,
    "transitions": np.int32,
    "fires": np.int8,
    "inside": np.bool_,
    "start": np.int32,
}


def fold_span(
    spec: CueSpec,
    columns: NDArray[np.int32],
    following: NDArray[np.int32],
    fired: NDArray[np.int8],
) -> dict[str, NDArray[Any]]:
    """Fold the thinking span into the tables and merge tokens that act alike.

    States are numbered: progress in the opening marker, then for each progress in the closing
    marker one block of the letter automaton's states.

    Parameters
    ----------
    spec
        For the opening and the closing ids.
    columns : int32[vocab]
        Column of each token; that of control tokens is 0.
    following : int32[n_letter_states, n_columns]
        State of the letter automaton after a token.
    fired : int8[n_letter_states, n_columns]
        Label that the token fires.

    """
    first, last = spec.think_start_ids, spec.think_end_ids
    n_letters, n_columns = following.shape
    markers = sorted({*first, *last})
    token_class = columns.copy()
    for rank, token in enumerate(markers):  # a marker's id needs a column of its own
        token_class[token] = n_columns + rank
    opened = len(first)
    n_states = opened + len(last) * n_letters
    transitions = np.zeros((n_states, n_columns + len(markers)), np.int32)
    fires = np.zeros(transitions.shape, np.int8)
    transitions[opened:, :n_columns] = np.tile(opened + following, (len(last), 1))
    fires[opened:, :n_columns] = np.tile(fired, (len(last), 1))
    for rank, token in enumerate(markers):
        column, text = n_columns + rank, columns[token]
        for matched in range(opened):
            transitions[matched, column] = _progress(first, matched, token)  # whole: == opened
        for matched in range(len(last)):
            rows = slice(opened + matched * n_letters, opened + (matched + 1) * n_letters)
            progress = _progress(last, matched, token)
            if progress == len(last):
                continue  # the thinking is over: state 0, no event
            transitions[rows, column] = opened + progress * n_letters + following[:, text]
            fires[rows, column] = fired[:, text]
            if (token,) == first:  # opened again: the text begins anew
                transitions[rows, column] = opened
                fires[rows, column] = 0
    merged, where = np.unique(np.vstack([transitions, fires]), axis=1, return_inverse=True)
    where = where.reshape(-1)
    neutral = where[NEUTRAL_CLASS]  # may share its column with other text; it must be number 0
    order = np.arange(merged.shape[1])
    order[[NEUTRAL_CLASS, neutral]] = order[[neutral, NEUTRAL_CLASS]]
    return {
        "token_class": order[where[token_class]].astype(np.int32),
        "transitions": np.ascontiguousarray(merged[:n_states, order]).astype(np.int32),
        "fires": np.ascontiguousarray(merged[n_states:, order]).astype(np.int8),
        "inside": np.arange(n_states) >= opened,
        "start": np.array([opened if spec.starts_inside else 0], np.int32),
    }


def _progress(marker: tuple[int, ...], matched: int, token: int) -> int:
    """Return how much of a marker is matched after a token (Knuth, Morris, Pratt)."""
    seen = (*marker[:matched], token)
    return max(size for size in range(len(seen) + 1) if seen[len(seen) - size :] == marker[:size])


def check_tables(tensors: Mapping[str, NDArray[Any]], spec: CueSpec) -> None:
    """Raise ArtifactError unless every look-up in the tables stays within them."""

    def demand(holds: bool, complaint: str) -> None:
        if not holds:
            raise ArtifactError(f"cue tables: {complaint}; build the artifact anew")

    wrong = set(DTYPES) ^ set(tensors)
    demand(not wrong, f"{', '.join(sorted(wrong))} missing or unknown")
    for name, dtype in DTYPES.items():
        table, rank = tensors[name], 2 if name in ("transitions", "fires") else 1
        demand(table.dtype == dtype, f"{name} is {table.dtype}, not {np.dtype(dtype)}")
        demand(table.ndim == rank and table.size > 0, f"{name} has the shape {table.shape}")
    n_states, n_classes = tensors["transitions"].shape
    for name, size in (("token_class", n_classes), ("transitions", n_states), ("start", n_states)):
        table = tensors[name]
        demand(table.min() >= 0 and table.max() < size, f"{name} is not within 0..{size - 1}")
    fires, labels = tensors["fires"], len(spec.labels) - (spec.interval is not None)
    demand(fires.shape == (n_states, n_classes), "fires and transitions differ in shape")
    demand(fires.min() >= 0 and fires.max() <= labels, f"fires is not within 0..{labels}")
    demand(not fires[:, NEUTRAL_CLASS].any(), "the neutral class fires")
    demand(tensors["inside"].shape == (n_states,), "inside and transitions differ in shape")
    start = tensors["start"]
    demand(start.shape == (1,), f"start has the shape {start.shape}")
    demand(bool(tensors["inside"][start[0]]) == spec.starts_inside, "start denies starts_inside")
    opened, n_inside = len(spec.think_start_ids), int(tensors["inside"].sum())
    demand(n_states - n_inside == opened and not tensors["inside"][:opened].any(), "inside is odd")
