"""What any halting rule would have done on recorded decodes, and the one number calibration needs.

Halting does not change what came before it, so the rows of a full decode tell all about every rule:
its steps are to a halting rule what the cues of a trace are to a threshold.

A decode may come in several blocks, one after another. A block in which halting gives the same
tokens as the full decode leaves the next block the same start: if every block agrees, the answer
does. The x_i of a request is therefore the largest of its blocks', and `calibration/risk.py` holds
as it stands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.denoising_table import COLUMNS, UNKNOWN, DenoisingTable
from calibration.worst import worst_bad_scores_flat
from probes.errors import InputError

__all__ = ["COLUMNS", "DenoisingTable", "Replay", "replay", "worst_scores"]


def worst_scores(scores: NDArray[np.float32], table: DenoisingTable) -> NDArray[np.float32]:
    """Return x_i of every trace: the lowest level at which it is not halted badly.

    Parameters
    ----------
    scores
        float32 [n_steps], no NaN; a step halts above a level.
    table
        The full decodes.

    Returns
    -------
    float32 [n_traces]
        -inf where no level halts it badly.

    Raises
    ------
    InputError
        If the scores are not one number a step.

    """
    _check_scores(scores, table)
    if len(table) == 0:
        return np.zeros(0, dtype=np.float32)
    blocks = worst_bad_scores_flat(scores, ~table.agree, table.block_offsets)
    return np.asarray(np.maximum.reduceat(blocks, table.trace_offsets[:-1]))


@dataclass(frozen=True, eq=False)
class Replay:
    """What a rule would have done.

    Attributes
    ----------
    at
        int64 [n_blocks], the step within the block that was its last.
    steps, full_steps
        int64 [n_traces], forward passes run, and those of the full decode.
    halted
        bool [n_traces], at least one block ended before its last step.
    agree
        bool [n_traces], the answer is the full decode's.
    correct
        int8 [n_traces], the answer is right: 1, 0, or -1 unknown, as it also is where a block
        before the last came out otherwise, since what would have followed was not recorded.

    """

    at: NDArray[np.int64]
    steps: NDArray[np.int64]
    full_steps: NDArray[np.int64]
    halted: NDArray[np.bool_]
    agree: NDArray[np.bool_]
    correct: NDArray[np.int8]


def replay(scores: NDArray[np.float32], level: float, table: DenoisingTable) -> Replay:
    """Halt each block at its first step whose score is above a level, strictly.

    Halting at step i has cost i + 1 passes; the rest of the block is saved. Of a trace in which an
    early block comes out otherwise, the steps of later blocks are those of the full decode's course
    and only an estimate.

    Parameters
    ----------
    scores
        float32 [n_steps], no NaN.
    level
        Rounded to float32; +inf never halts.
    table
        The full decodes.

    Raises
    ------
    InputError
        If the scores are not one number a step, or the level is NaN.

    """
    _check_scores(scores, table)
    if np.isnan(level):
        raise InputError("the level is NaN; give a number, or infinity to halt nothing")
    full_steps = table.full_steps()
    if len(table) == 0:
        none = np.zeros(0, dtype=np.bool_)
        return Replay(full_steps, full_steps, full_steps, none, none, table.correct)
    starts, last = table.block_offsets[:-1], table.block_offsets[1:] - 1
    steps = np.where(scores > np.float32(level), np.arange(table.n_steps), table.n_steps)
    end = np.minimum(np.minimum.reduceat(steps, starts), last)
    first = table.trace_offsets[:-1]
    agrees = table.agree[end]
    agree = np.logical_and.reduceat(agrees, first)
    # What was recorded at the halt of the last block holds if all before it came out the same.
    final = table.trace_offsets[1:] - 1
    otherwise = np.add.reduceat((~agrees).astype(np.int64), first) - ~agrees[final]
    return Replay(
        at=end - starts,
        steps=np.add.reduceat(end - starts + 1, first),
        full_steps=full_steps,
        halted=np.logical_or.reduceat(end < last, first),
        agree=agree,
        correct=np.where(otherwise == 0, table.correct[end[final]], np.int8(UNKNOWN)),
    )


def _check_scores(scores: NDArray[np.float32], table: DenoisingTable) -> None:
    if scores.dtype != np.float32 or scores.shape != (table.n_steps,) or np.isnan(scores).any():
        raise InputError(
            f"scores are {scores.dtype} of shape {list(scores.shape)}; give float32 "
            f"[{table.n_steps}] without NaN, one score a step"
        )
