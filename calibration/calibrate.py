"""From labelled, scored traces to a calibrated rule: checks, threshold, promise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration import remarks
from calibration.conformal import lynx_threshold
from calibration.losses import bad_cues
from calibration.risk import (
    DEFAULT_CONFIDENCE,
    METHODS,
    allowed_above,
    promise,
    require_units,
    threshold,
)
from calibration.rules import DEFAULT_RULE, Rule, Terms
from calibration.rules.per_cue import per_cue_sentence
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
    rule, parameters
        Name in :mod:`calibration.rules` and what the rule was fitted to, as JSON. For another rule
        than "level" the `worst_scores` are those of its own score, where it has one, and the
        threshold is of that score (+inf where a rule has no single one).
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
    rule: str = DEFAULT_RULE
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that a threshold rule's calibration needs of its traces, however many they were.

    Attributes
    ----------
    worst_scores, good_scores, bad_scores
        As in :class:`Calibration`.
    group_sizes
        int64[n_units], traces of each group, in any order.
    n_traces
        Their sum.
    """

    worst_scores: NDArray[np.float32]
    good_scores: NDArray[np.float32]
    bad_scores: NDArray[np.float32]
    group_sizes: NDArray[np.int64]
    n_traces: int

    @property
    def n_cues(self) -> int:
        """Cues of both classes."""
        return len(self.good_scores) + len(self.bad_scores)


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
    check_names(method, rollouts)
    table = as_table(traces)
    require_traces(len(table), table.n_groups, table.n_cues, method, alpha, confidence, source)
    evidence = gather(table, loss, rollouts)
    return conclude(evidence, loss, alpha, method, confidence, rollouts, allow_one_class, source)


def calibrate_rule(
    rule: Rule,
    traces: CueTable | Iterable[Trace],
    terms: Terms,
    allow_one_class: bool = False,
    source: str = "the calibration traces",
) -> Calibration:
    """Calibrate any rule of the registry; arguments and errors as in :func:`calibrate`.

    A rule without a guarantee of risk asks for no number of traces.
    """
    table = as_table(traces)
    asks = terms.method if rule.guarantee == "risk" else "lynx"
    require_traces(
        len(table), table.n_groups, table.n_cues, asks, terms.alpha, terms.confidence, source
    )
    evidence = gather(table, terms.loss, terms.rollouts)
    notes = remarks.on_evidence(evidence, terms.loss, terms.rollouts, allow_one_class, source)
    fitted = rule.fit(table, terms)
    worst = evidence.worst_scores if fitted.worst_scores is None else fitted.worst_scores
    return Calibration(
        method="lynx" if rule.name == "lynx" else terms.method,
        loss=terms.loss,
        alpha=terms.alpha,
        confidence=terms.confidence if terms.method == "ltt" and rule.name != "lynx" else None,
        threshold=np.inf if fitted.threshold is None else fitted.threshold,
        promise=fitted.promise,
        worst_scores=worst,
        good_scores=evidence.good_scores,
        bad_scores=evidence.bad_scores,
        n_units=len(evidence.group_sizes),
        n_traces=evidence.n_traces,
        n_cues=evidence.n_cues,
        rollouts=int(evidence.group_sizes.max()),
        notes=(*notes, *fitted.notes),
        rule=rule.name,
        parameters=fitted.parameters,
    )


def gather(table: CueTable, loss: str, rollouts: str = "one") -> Evidence:
    """Take the evidence out of a table of traces."""
    bad = bad_cues(table, loss)
    return Evidence(
        worst_scores=np.sort(worst_bad_scores(table, loss, rollouts)),
        good_scores=np.sort(table.scores[~bad]),
        bad_scores=np.sort(table.scores[bad]),
        group_sizes=np.bincount(table.group_codes),
        n_traces=len(table),
    )


def check_names(method: str, rollouts: str) -> None:
    """Refuse a method or a way to count rollouts that there is not; the error lists the choices."""
    if method not in CALIBRATION_METHODS:
        choices = ", ".join(CALIBRATION_METHODS)
        raise InputError(f"method {method!r} is unknown; choose one of {choices}.")
    if rollouts not in ROLLOUTS:
        raise InputError(f"rollouts {rollouts!r} is unknown; choose one of {', '.join(ROLLOUTS)}.")


def require_traces(
    n_traces: int,
    n_units: int,
    n_cues: int,
    method: str,
    alpha: float,
    confidence: float,
    source: str,
) -> None:
    """Refuse too few groups for the promise, and traces without a single cue."""
    if method in METHODS:
        require_units(n_units, method, alpha, confidence)
    if n_cues == 0:
        raise InputError(
            f"{source}: none of the {n_traces} traces has a cue, so that nothing could ever be "
            "stopped; check the cue words (or the interval) against what the model writes."
        )


def conclude(
    evidence: Evidence,
    loss: str,
    alpha: float,
    method: str = "ltt",
    confidence: float = DEFAULT_CONFIDENCE,
    rollouts: str = "one",
    allow_one_class: bool = False,
    source: str = "the calibration traces",
) -> Calibration:
    """Choose the threshold; arguments and errors as in :func:`calibrate`."""
    sizes, n_units = evidence.group_sizes, len(evidence.group_sizes)
    n_bad = len(evidence.bad_scores)
    check_names(method, rollouts)
    require_traces(evidence.n_traces, n_units, evidence.n_cues, method, alpha, confidence, source)
    notes = remarks.on_evidence(evidence, loss, rollouts, allow_one_class, source)
    if method == "lynx":
        limit = lynx_threshold(evidence.good_scores, evidence.bad_scores, alpha)
        sentence = per_cue_sentence("LYNX", loss, alpha)
        if limit == np.inf:
            notes.append(f"too few bad cues ({n_bad}) for delta {alpha:g}: never stops")
    else:
        limit = threshold(evidence.worst_scores, alpha, method, confidence)
        sentence = promise(loss, alpha, method, confidence, n_units)
        allowed = allowed_above(n_units, alpha, method, confidence)
        notes += remarks.on_threshold(evidence, limit, allowed)
    return Calibration(
        method=method,
        loss=loss,
        alpha=alpha,
        confidence=confidence if method == "ltt" else None,
        threshold=limit,
        promise=sentence,
        worst_scores=evidence.worst_scores,
        good_scores=evidence.good_scores,
        bad_scores=evidence.bad_scores,
        n_units=n_units,
        n_traces=evidence.n_traces,
        n_cues=evidence.n_cues,
        rollouts=int(sizes.max()),
        notes=tuple(notes),
    )
