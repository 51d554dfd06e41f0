"""From traces to units: one number x_i per request, all that its loss at any threshold depends on.

A rule that stops at the first score above a threshold can only ever stop at a *running record*, a
score above all before it in its trace. x_i is the highest score among the trace's bad records (-inf
without one): at every threshold from x_i on, trace i is not stopped badly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from calibration.losses import bad_cues
from calibration.strings import digests, first_appearance
from calibration.table import CueTable, as_table
from probes.errors import InputError
from probes.events import Trace

ROLLOUTS = ("one", "worst")

_BLOCK_CUES = 32_768  # temporaries of one block stay in the processor's cache
_LONGEST_DOUBLED = 2_048


def worst_bad_scores(
    traces: CueTable | Iterable[Trace], loss: str, rollouts: str = "one"
) -> NDArray[np.float32]:
    """Reduce traces to one number per unit.

    Parameters
    ----------
    traces
        The calibration traces.
    loss
        A name of :data:`calibration.losses.LOSSES`.
    rollouts
        Several traces of one group count once. ``one``: the rollout whose trace_id has the smallest
        SHA-256 stands for the group (a draw that looks at nothing else). ``worst``: the group's
        largest x_i (stricter: none of the rollouts may be stopped badly).

    Returns
    -------
    float32[n_groups], in order of the groups' first appearance; -inf where no threshold would ever
    stop the unit badly.

    Raises
    ------
    InputError
        When a label the loss needs is missing, or `rollouts` is unknown.
    """
    table = as_table(traces)
    flat = worst_bad_scores_flat(table.scores, bad_cues(table, loss), table.offsets)
    if rollouts not in ROLLOUTS:
        raise InputError(f"rollouts {rollouts!r} is unknown; choose one of {', '.join(ROLLOUTS)}.")
    if table.n_groups == len(table):
        return flat
    return reduce_rollouts(flat, digests(table.trace_ids), table.group_codes, rollouts)


def worst_bad_scores_flat(
    scores: NDArray[np.float32], bad: NDArray[np.bool_], offsets: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Compute x_i of every trace from flat columns, without a loop over traces or cues.

    Parameters
    ----------
    scores
        float32[n_cues], no NaN, in order of position within a trace.
    bad
        bool[n_cues], whether a stop there has loss 1.
    offsets
        int64[n_traces + 1]; trace i owns the cues ``offsets[i]:offsets[i + 1]``.

    Returns
    -------
    float32[n_traces]

    Notes
    -----
    Records need a running maximum that restarts at every trace. Each score becomes an integer of
    the same order with the trace's index in its upper half; one running maximum over all cues then
    restarts by itself, because every key of a trace exceeds all keys of the traces before it.
    """
    n_traces = len(offsets) - 1
    worst = np.full(n_traces, -np.inf, dtype=np.float32)
    first = 0
    while first < n_traces:
        # As many whole traces as fit the block, at least one.
        end = int(np.searchsorted(offsets, offsets[first] + _BLOCK_CUES, side="right")) - 1
        last = max(first + 1, min(end, n_traces))
        cues = slice(int(offsets[first]), int(offsets[last]))
        counts = np.diff(offsets[first : last + 1])
        worst[first:last] = _worst_in_block(scores[cues], bad[cues], counts)
        first = last
    return worst


def _worst_in_block(
    scores: NDArray[np.float32], bad: NDArray[np.bool_], counts: NDArray[np.int64]
) -> NDArray[np.float32]:
    worst = np.full(len(counts), -np.inf, dtype=np.float32)
    if len(scores) == 0:
        return worst
    values = np.asarray(scores, dtype=np.float32) + np.float32(0)  # -0.0 becomes 0.0: they tie
    bits = values.view(np.int32)
    keys = np.repeat(np.arange(len(counts), dtype=np.int64) << 32, counts)
    keys += bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    bad_record = np.array(bad, dtype=np.bool_)
    bad_record[1:] &= keys[1:] > _running_maximum(keys, int(counts.max()))[:-1]
    cues = np.flatnonzero(bad_record)
    rows = (keys[cues] + (1 << 31)) >> 32  # the lower half of a key is signed
    # Records rise within a trace, so the last of its bad ones is the highest; on repeated indices
    # numpy's assignment keeps the last.
    worst[rows] = values[cues]
    return worst


def _running_maximum(keys: NDArray[np.int64], longest: int) -> NDArray[np.int64]:
    """Take the running maximum of keys in which no look-back beyond `longest` elements can matter.

    Doubling the look-back costs log2(longest) passes, but passes that the processor vectorises;
    numpy's accumulate goes one element at a time.
    """
    if longest > _LONGEST_DOUBLED:
        return np.maximum.accumulate(keys)
    current, following = keys, np.empty_like(keys)
    shift = 1
    while shift < longest:
        following[:shift] = current[:shift]
        np.maximum(current[shift:], current[:-shift], out=following[shift:])
        current, following = following, np.empty_like(keys) if current is keys else current
        shift *= 2
    return current


def reduce_rollouts(
    worst: NDArray[np.float32],
    names: NDArray[np.uint64],
    groups: NDArray[np.int64],
    rollouts: str,
) -> NDArray[np.float32]:
    """Reduce x_i per trace to x_i per group.

    Parameters
    ----------
    worst
        float32[n_traces].
    names
        uint64[n_traces, 2], the traces' :func:`calibration.strings.digests`.
    groups
        int64[n_traces], each trace's group, one of ``0 ... n_groups - 1``.
    rollouts
        See :func:`worst_bad_scores`.

    Returns
    -------
    float32[n_groups]
    """
    if rollouts == "one":
        return worst[drawn_rows(names, groups)]
    reduced = np.full(int(groups.max()) + 1, -np.inf, dtype=np.float32)
    np.maximum.at(reduced, groups, worst)
    return reduced


def drawn_rollouts(trace_ids: Sequence[str], groups: Sequence[str]) -> NDArray[np.int64]:
    """Draw one row per group by the hash of its trace_id; int64[n_groups], by first appearance."""
    return drawn_rows(digests(trace_ids), first_appearance(groups))


def drawn_rows(names: NDArray[np.uint64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draw one row per group, the one whose name has the smallest hash; int64[n_groups]."""
    # By group, then by hash; equal hashes (one name twice) keep their order.
    order = np.lexsort((names[:, 1], names[:, 0], groups))
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    return np.asarray(order[starts], dtype=np.int64)
