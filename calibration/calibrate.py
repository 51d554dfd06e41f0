"""From labelled, scored traces to a calibrated rule: checks, threshold, promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.conformal import lynx_threshold
from calibration.losses import bad_cues, get_loss
from calibration.risk import (
    DEFAULT_CONFIDENCE,
    METHODS,
    promise,
    require_units,
    threshold,
)
from calibration.table import CueTable, as_table
from calibration.worst import ROLLOUTS, worst_bad_scores
from probes.errors import InputError
from probes.events import Trace

#: Methods that `stopper calibrate` offers; "lynx" is the baseline without a promise per request.
CALIBRATION_METHODS = (*METHODS, "lynx")


@dataclass(frozen=True, eq=False)
class Calibration:
    """A threshold, what it promises, and what it takes to answer any other alpha later.

    Attributes
    ----------
    method, loss, alpha, confidence
        As asked for; confidence is None where the method has none.
    threshold
        Stop where float32(score) > threshold.
    promise
        The sentence printed with it.
    worst_scores
        float32[n_units], ascending: the x_i of calibration/worst.py.
    good_scores, bad_scores
        float32[n], ascending: the scores of all cues whose stop would be good, and bad; the
        per-cue baselines are computed from them for any delta.
    n_units, n_traces, n_cues
        Groups, traces and cues calibrated on.
    rollouts
        Most traces of one group.
    notes
        Remarks a person should read.
    """

    method: str
    loss: str
    alpha: float
    confidence: float | None
    threshold: float
    promise: str
    worst_scores: NDArray[np.float32]
    good_scores: NDArray[np.float32]
    bad_scores: NDArray[np.float32]
    n_units: int
    n_traces: int
    n_cues: int
    rollouts: int
    notes: tuple[str, ...] = ()


def calibrate(
    traces: CueTable | Iterable[Trace],
    loss: str,
    alpha: float,
    method: str = "ltt",
    confidence: float = DEFAULT_CONFIDENCE,
    rollouts: str = "one",
    allow_one_class: bool = False,
    source: str = "the calibration traces",
) -> Calibration:
    """Calibrate a stopping rule.

    Parameters
    ----------
    traces
        Exchangeable with the requests to come; nothing may have been fitted to their groups.
    loss, alpha, method, confidence
        See :mod:`calibration.losses` and :mod:`calibration.risk`; method may also be ``lynx``.
    rollouts
        ``one`` or ``worst``, see :func:`calibration.worst.worst_bad_scores`.
    allow_one_class
        Accept traces whose cues are all good or all bad.
    source
        What to call the traces in errors, for instance the file.

    Raises
    ------
    TooFewTraces
        When the promise needs more groups than there are; says how many more.
    InputError
        When there is no cue at all, all cues are of one class, a label is missing or an argument
        is out of its range.
    """
    if method not in CALIBRATION_METHODS:
        choices = ", ".join(CALIBRATION_METHODS)
        raise InputError(f"method {method!r} is unknown; choose one of {choices}.")
    if rollouts not in ROLLOUTS:
        raise InputError(f"rollouts {rollouts!r} is unknown; choose one of {', '.join(ROLLOUTS)}.")
    table = as_table(traces)
    sizes = Counter(table.groups)
    if method in METHODS:
        require_units(len(sizes), method, alpha, confidence)
    if table.n_cues == 0:
        raise InputError(
            f"{source}: none of the {len(table)} traces has a cue, so that nothing could ever be "
            "stopped; check the cue words (or the interval) against what the model writes."
        )
    bad = bad_cues(table, loss)
    notes = [*_class_notes(bad, loss, source, allow_one_class), *_rollout_notes(sizes, rollouts)]
    good_scores, bad_scores = np.sort(table.scores[~bad]), np.sort(table.scores[bad])
    worst = np.sort(worst_bad_scores(table, loss, rollouts))
    if method == "lynx":
        limit = lynx_threshold(good_scores, bad_scores, alpha)
        sentence = _lynx_sentence(loss, alpha)
        if limit == np.inf:
            notes.append(f"too few bad cues ({len(bad_scores)}) for delta {alpha:g}: never stops")
    else:
        limit = threshold(worst, alpha, method, confidence)
        sentence = promise(loss, alpha, method, confidence, len(sizes))
        if limit == -np.inf:
            notes.append("bad stops are so rare here that the rule stops at the first cue")
    return Calibration(
        method=method,
        loss=loss,
        alpha=alpha,
        confidence=confidence if method == "ltt" else None,
        threshold=limit,
        promise=sentence,
        worst_scores=worst,
        good_scores=good_scores,
        bad_scores=bad_scores,
        n_units=len(sizes),
        n_traces=len(table),
        n_cues=table.n_cues,
        rollouts=max(sizes.values()),
        notes=tuple(notes),
    )


def _class_notes(
    bad: NDArray[np.bool_], loss: str, source: str, allow_one_class: bool
) -> list[str]:
    if bad.any() and not bad.all():
        return []
    kind = "bad" if bad.all() else "good"
    outcome = (
        "only scores above nearly all of these would stop"
        if bad.all()
        else "every trace would be stopped at its first cue"
    )
    found = f"all {len(bad)} cues are {kind} under the loss '{loss}': {outcome}"
    if not allow_one_class:
        raise InputError(
            f"{source}: {found}. One class only usually means wrong labels or the wrong loss; if "
            "they are right, say so with --allow-one-class."
        )
    return [found]


def _rollout_notes(sizes: Counter[str], rollouts: str) -> list[str]:
    repeated = sum(size > 1 for size in sizes.values())
    if not repeated:
        return []
    how = "one drawn rollout stands for each" if rollouts == "one" else "each counts by its worst"
    return [f"{repeated} of {len(sizes)} groups have several traces and count once: {how}"]


def _lynx_sentence(loss: str, alpha: float) -> str:
    return (
        f"LYNX per cue at delta {alpha:g}: a single cue whose stop would be made "
        f"{get_loss(loss).meaning} passes with probability at most {alpha:g}. This promises "
        "nothing per request: a trace has many cues, and the share of requests stopped badly "
        "grows with their number. A baseline for comparison, not for serving."
    )
