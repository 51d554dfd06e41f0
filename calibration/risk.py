"""Trace-level risk control in its exact form: scores of traces become a threshold with a promise.

The unit is one request. Stop at the first cue with ``float32(score) > float32(threshold)``. For
unit i, x_i is the highest score among its bad cues that are running records (the only bad cues at
which some threshold would stop it), or -inf. The loss, made monotone, of unit i at threshold t is
1{x_i > t}, so that every method below only decides how many of the x_i may lie above t:

* ``ltt`` (Learn then Test; here a distribution-free tolerance limit): the largest k with
  BinomCDF(k; n, alpha) <= 1 - confidence. At most alpha is stopped badly, with that confidence over
  the draw of the calibration traces.
* ``crc`` (conformal risk control; for this 0/1 loss, split conformal prediction with x_i as the
  nonconformity score): floor((n + 1) alpha) - 1. At most alpha is stopped badly on average over
  calibration draws.

The threshold is the (k + 1)-th largest x_i, or +inf (never stop) when n is too small for any k.

References: Angelopoulos, Bates, Candès, Jordan, Lei, "Learn then Test" (2021); Angelopoulos, Bates,
Fisch, Lei, Schuster, "Conformal Risk Control" (2022); Wilks, "Determination of Sample Sizes for
Setting Tolerance Limits" (1941).

This module runs inside the engine: it needs numpy and scipy.special, nothing else.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr

from calibration.losses import bad_cues, get_loss
from calibration.table import CueTable, as_table
from probes.errors import InputError, TooFewTraces
from probes.events import Trace

METHODS = ("ltt", "crc")
ROLLOUTS = ("one", "worst")
DEFAULT_CONFIDENCE = 0.9

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
    return reduce_rollouts(flat, table.trace_ids, table.groups, rollouts)


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
    """Running maximum of keys in which no look-back beyond `longest` elements can matter.

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
    worst: NDArray[np.float32], trace_ids: Sequence[str], groups: Sequence[str], rollouts: str
) -> NDArray[np.float32]:
    """Reduce x_i per trace to x_i per group; see :func:`worst_bad_scores`."""
    if rollouts not in ROLLOUTS:
        raise InputError(f"rollouts {rollouts!r} is unknown; choose one of {', '.join(ROLLOUTS)}.")
    if rollouts == "one":
        return worst[drawn_rollouts(trace_ids, groups)]
    index = {group: unit for unit, group in enumerate(dict.fromkeys(groups))}
    units = np.fromiter((index[group] for group in groups), dtype=np.int64, count=len(groups))
    reduced = np.full(len(index), -np.inf, dtype=np.float32)
    np.maximum.at(reduced, units, worst)
    return reduced


def drawn_rollouts(trace_ids: Sequence[str], groups: Sequence[str]) -> NDArray[np.int64]:
    """Draw one row per group by the hash of its trace_id; int64[n_groups], by first appearance."""
    if len(set(groups)) == len(groups):
        return np.arange(len(groups), dtype=np.int64)
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    drawn = [
        rows[0] if len(rows) == 1 else min(rows, key=lambda row: (_digest(trace_ids[row]), row))
        for rows in members.values()
    ]
    return np.array(drawn, dtype=np.int64)


def allowed_above(n: int, alpha: float, method: str, confidence: float) -> int:
    """Count how many of n units may have x_i above the threshold; -1 if no threshold is allowed.

    `alpha` and `confidence` are taken as the decimals they print as, so that 0.1 means one tenth.
    """
    _check(alpha, method, confidence)
    if method == "crc":
        return math.floor((n + 1) * Fraction(repr(float(alpha)))) - 1
    epsilon = float(1 - Fraction(repr(float(confidence))))
    low, high = -1, n  # the CDF is <= epsilon at low (by convention at -1) and above it at high
    while high - low > 1:
        middle = (low + high) // 2
        if bdtr(middle, n, alpha) <= epsilon:
            low = middle
        else:
            high = middle
    return low


def threshold(
    worst: ArrayLike, alpha: float, method: str = "ltt", confidence: float = DEFAULT_CONFIDENCE
) -> float:
    """Give the lowest threshold that keeps the promise; exact for any alpha.

    Parameters
    ----------
    worst
        float32[n_units], the x_i, in any order.
    alpha
        Tolerated share of badly stopped requests, in (0, 1).
    method
        ``ltt`` or ``crc``.
    confidence
        Of the promise over calibration draws, in (0, 1); ``crc`` has none and ignores it.

    Returns
    -------
    A float32 value: stop where float32(score) > threshold. +inf (never stop) when there are too few
    units for this alpha, which callers that talk to people turn into :func:`require_units`; -inf
    (stop at the first cue) when even that is bad too rarely to matter.

    Raises
    ------
    InputError
        When an argument is out of its range or an x_i is NaN.
    """
    units = np.asarray(worst, dtype=np.float32).ravel()
    above = allowed_above(len(units), alpha, method, confidence)
    if above < 0:
        return math.inf
    if np.isnan(units).any():
        raise InputError("a calibration score is NaN; score the calibration traces again.")
    rank = len(units) - 1 - above
    return float(np.partition(units, rank)[rank])


def minimum_units(method: str, alpha: float, confidence: float = DEFAULT_CONFIDENCE) -> int:
    """Give the smallest number of units for which a finite threshold can exist.

    Examples
    --------
    >>> [minimum_units("crc", alpha) for alpha in (0.10, 0.05, 0.03, 0.02, 0.01)]
    [9, 19, 33, 49, 99]
    >>> [minimum_units("ltt", alpha, 0.9) for alpha in (0.10, 0.05, 0.03, 0.02, 0.01)]
    [22, 45, 76, 114, 230]
    """
    _check(alpha, method, confidence)
    if method == "crc":
        return math.ceil(1 / Fraction(repr(float(alpha)))) - 1
    # (1 - alpha)^n <= epsilon; the logarithm may be one off at the edge, the definition decides.
    guess = math.log(1 - confidence) / math.log1p(-alpha)
    n = max(1, math.floor(guess) - 1)
    while allowed_above(n, alpha, method, confidence) < 0:
        n += 1
    return n


def units_missing(n: int, method: str, alpha: float, confidence: float = DEFAULT_CONFIDENCE) -> int:
    """Count the further units needed before a threshold can exist; 0 if there are enough."""
    return max(0, minimum_units(method, alpha, confidence) - n)


def require_units(
    n: int, method: str, alpha: float, confidence: float = DEFAULT_CONFIDENCE
) -> None:
    """Refuse a promise that n units cannot carry.

    Raises
    ------
    TooFewTraces
        Saying how many more traces are needed, and which alpha the present ones would allow.
    """
    missing = units_missing(n, method, alpha, confidence)
    if not missing:
        return
    asked = f"alpha {alpha:g}" + (f" at confidence {confidence:g}" if method == "ltt" else "")
    smallest = smallest_alpha(n, method, confidence)
    other = "" if smallest is None else f", or settle for alpha >= {smallest:g} with what you have"
    raise TooFewTraces(
        f"{n} calibration traces (rollouts of one group count once) are too few for {asked} by "
        f"{method}: it needs at least {n + missing}, so {missing} more. Collect {missing} more "
        f"traces of other prompts{other}."
    )


def smallest_alpha(n: int, method: str, confidence: float = DEFAULT_CONFIDENCE) -> float | None:
    """Give the smallest alpha, in thousandths, for which n units suffice; None if there is none."""
    for thousandths in range(1, 1000):
        if minimum_units(method, thousandths / 1000, confidence) <= n:
            return thousandths / 1000
    return None


def promise(loss: str, alpha: float, method: str, confidence: float, n: int) -> str:
    """Word what an artifact promises, and what it does not."""
    meaning = get_loss(loss).meaning
    _check(alpha, method, confidence)
    kept = (
        f"with confidence {confidence:g} over the draw of the calibration traces"
        if method == "ltt"
        else "on average over the draw of the calibration traces"
    )
    return (
        f"Over new requests exchangeable with these {n}, at most {alpha:g} are stopped early "
        f"{meaning} (loss '{loss}'), {kept}. Not for one given request; not under another model, "
        "revision, quantization, template, sampling setting or task mix."
    )


def check_alpha(alpha: float) -> None:
    """Refuse an alpha outside (0, 1)."""
    if isinstance(alpha, bool) or not 0 < alpha < 1:
        raise InputError(f"alpha is {alpha}; give a share strictly between 0 and 1, such as 0.05.")


def _check(alpha: float, method: str, confidence: float) -> None:
    if method not in METHODS:
        raise InputError(f"method {method!r} is unknown; choose one of {', '.join(METHODS)}.")
    check_alpha(alpha)
    if isinstance(confidence, bool) or not 0 < confidence < 1:
        raise InputError(
            f"confidence is {confidence}; give a number strictly between 0 and 1, such as 0.9."
        )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8")).digest()
