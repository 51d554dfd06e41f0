"""Calibration of more traces than memory holds: batches in, the very same threshold out.

What a threshold rule needs of a trace is x_i, whose prompt it answers, and the scores of its cues
by class. An :class:`Accumulator` keeps those and lets the rest go: 36 bytes a trace and 4 a cue.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from calibration.calibrate import Calibration, Evidence, check_names, conclude
from calibration.losses import bad_cues, get_loss
from calibration.risk import DEFAULT_CONFIDENCE
from calibration.strings import digests
from calibration.table import CueTable
from calibration.worst import reduce_rollouts, worst_bad_scores_flat
from probes.errors import InputError


class Accumulator:
    """Reduces tables, one after another, to what calibration needs of all of them.

    Groups and traces are told apart by hashes of their names (:func:`calibration.strings.digests`).
    That a trace_id occurs once is for the reader to check: those of :mod:`calibration.scores` do.

    Parameters
    ----------
    loss
        A name of :data:`calibration.losses.LOSSES`.
    rollouts
        ``one`` or ``worst``, see :func:`calibration.worst.worst_bad_scores`; the rollouts of a
        group may lie in different tables.

    Raises
    ------
    InputError
        For unknown names.
    """

    def __init__(self, loss: str, rollouts: str = "one") -> None:
        check_names("ltt", rollouts)
        get_loss(loss)
        self.loss, self.rollouts = loss, rollouts
        self._worst: list[NDArray[np.float32]] = []
        self._names: list[NDArray[np.uint64]] = []
        self._groups: list[NDArray[np.uint64]] = []
        self._good: list[NDArray[np.float32]] = []
        self._bad: list[NDArray[np.float32]] = []

    def add(self, table: CueTable) -> None:
        """Take the next traces in.

        Raises
        ------
        InputError
            If a label that the loss needs is missing.
        """
        bad = bad_cues(table, self.loss)
        self._worst.append(worst_bad_scores_flat(table.scores, bad, table.offsets))
        self._names.append(digests(table.trace_ids))
        self._groups.append(digests(table.groups)[:, 0].copy())
        self._good.append(table.scores[~bad])
        self._bad.append(table.scores[bad])

    def evidence(self) -> Evidence:
        """Put together what has been taken in.

        Raises
        ------
        InputError
            If that is nothing.
        """
        if not self._worst:
            raise InputError("there are no traces to calibrate on; give at least one.")
        worst, groups = np.concatenate(self._worst), np.concatenate(self._groups)
        _, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        if len(sizes) < len(worst):
            names = np.concatenate(self._names)
            units = reduce_rollouts(worst, names, codes, self.rollouts)
        else:
            units = worst
        return Evidence(
            worst_scores=np.sort(units),
            good_scores=np.sort(np.concatenate(self._good)),
            bad_scores=np.sort(np.concatenate(self._bad)),
            group_sizes=sizes,
            n_traces=len(worst),
        )


def calibrate_batches(
    tables: Iterable[CueTable],
    loss: str,
    alpha: float,
    method: str = "ltt",
    confidence: float = DEFAULT_CONFIDENCE,
    rollouts: str = "one",
    allow_one_class: bool = False,
    source: str = "the calibration traces",
) -> Calibration:
    """Calibrate on traces that come in batches; one batch is held at a time.

    Arguments, result and errors are those of :func:`calibration.calibrate.calibrate`, bit for bit
    whatever the batches, but that missing labels are found before too few traces are.

    Parameters
    ----------
    tables
        For instance :func:`calibration.scores.read_tables`.
    """
    check_names(method, rollouts)
    gathered = Accumulator(loss, rollouts)
    for table in tables:
        gathered.add(table)
    return conclude(
        gathered.evidence(), loss, alpha, method, confidence, rollouts, allow_one_class, source
    )
