"""What counts as a bad stop: the named losses and the sentences that describe them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from calibration.table import NO, UNKNOWN, YES, CueTable, as_table
from probes.errors import InputError
from probes.events import Trace


@dataclass(frozen=True, slots=True)
class Loss:
    """A named 0/1 loss of stopping at one cue.

    Attributes
    ----------
    name
        As written on the command line and into artifacts.
    meaning
        Completes "may be stopped early ...".
    """

    name: str
    meaning: str


DEFAULT_LOSS = "disagree"

LOSSES: Mapping[str, Loss] = MappingProxyType(
    {
        loss.name: loss
        for loss in (
            Loss("disagree", "with an answer other than the one the full trace would have given"),
            Loss("wrong", "with a wrong answer"),
            Loss("harm", "with a wrong answer where the full trace would have been right"),
        )
    }
)


def get_loss(name: str) -> Loss:
    """Look a loss up by name.

    Raises
    ------
    InputError
        Listing the choices.
    """
    try:
        return LOSSES[name]
    except KeyError:
        raise InputError(f"loss {name!r} is unknown; choose one of {', '.join(LOSSES)}.") from None


def bad_cues(traces: CueTable | Iterable[Trace], loss: str) -> NDArray[np.bool_]:
    """Mark the cues at which a stop would be bad.

    Parameters
    ----------
    traces
        The recorded traces.
    loss
        ``disagree``: the cue's answer differs from the full trace's. ``wrong``: it is not the gold
        answer. ``harm``: it is not the gold answer and the full trace's is; where the full trace is
        wrong a stop harms nothing, whatever the cue's label, known or not.

    Returns
    -------
    bool[n_cues]

    Raises
    ------
    InputError
        Naming the first trace and field that lack a label the loss needs.
    """
    table = as_table(traces)
    get_loss(loss)
    if loss == "disagree":
        _require_cue_label(table, table.agrees == UNKNOWN, "agrees", loss)
        return np.equal(table.agrees, NO)
    if loss == "wrong":
        _require_cue_label(table, table.correct == UNKNOWN, "correct", loss)
        return np.equal(table.correct, NO)
    has_cues = np.diff(table.offsets) > 0
    missing = np.flatnonzero((table.full_correct == UNKNOWN) & has_cues)
    if missing.size:
        trace_id = table.trace_ids[int(missing[0])]
        raise InputError(_missing_message(trace_id, "full_correct", loss, missing.size, "traces"))
    full_is_right = (table.full_correct == YES)[table.rows]
    _require_cue_label(table, full_is_right & (table.correct == UNKNOWN), "correct", loss)
    harmed: NDArray[np.bool_] = full_is_right & np.equal(table.correct, NO)
    return harmed


def _require_cue_label(table: CueTable, unknown: NDArray[np.bool_], field: str, loss: str) -> None:
    if not unknown.any():
        return
    cue = int(np.flatnonzero(unknown)[0])
    row = int(table.rows[cue])
    where = f"cues[{cue - int(table.offsets[row])}].{field}"
    count = int(unknown.sum())
    raise InputError(_missing_message(table.trace_ids[row], where, loss, count, "cues"))


def _missing_message(trace_id: str, field: str, loss: str, count: int, unit: str) -> str:
    return (
        f"trace {trace_id!r}: {field} is null, and the loss '{loss}' needs it ({count} {unit} lack "
        "it). Label every trace, leave the unlabelled ones out, or choose a loss whose labels you "
        "have (disagree needs cues[].agrees; wrong cues[].correct; harm full_correct and "
        "cues[].correct)."
    )
