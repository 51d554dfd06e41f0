"""Logit margins of a diffusion language model, and what a row's margins come to; the reference.

The margin of a position is its largest logit minus the second largest, of the raw logits: how far
the token that would be filled in lies ahead. SchED (arXiv 2512.02892) halts a denoising once the
mean margin of a region exceeds a threshold; Prophet (arXiv 2508.19982) looks at the same number.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from probes.errors import InputError

Aggregate = Literal["mean", "median", "quantile", "min"]
Region = Literal["masked", "span"]

SIGNALS: tuple[Aggregate, ...] = get_args(Aggregate)
"""How the margins of a region become one number; the quantile is that of one fifth."""
REGIONS: tuple[Region, ...] = get_args(Region)
"""Positions looked at: those still masked, or the whole span to be generated. Never the prompt."""

# Numerator and denominator: ranks are found by whole numbers, the same on every device.
FRACTIONS: dict[str, tuple[int, int]] = {"median": (1, 2), "quantile": (1, 5)}


def top2_margins(logits: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return the largest minus the second largest logit of each position.

    Parameters
    ----------
    logits
        [..., V] of any floating dtype, V at least 1.

    Returns
    -------
    float32 [...]
        At least 0. Each logit is rounded to float32 before the subtraction. NaN where a logit is
        NaN or both largest are infinite alike; +inf where the second is -inf (a banned token), and
        for a vocabulary of one token, which leaves nothing to choose.

    Raises
    ------
    InputError
        If the logits are no floating numbers, or have no vocabulary.

    Examples
    --------
    >>> top2_margins([[1.0, 4.0, 2.5], [3.0, 3.0, 0.0]])
    array([1.5, 0. ], dtype=float32)

    """
    values = np.asarray(logits)
    if values.dtype.kind != "f" or values.ndim < 1 or values.shape[-1] < 1:
        raise InputError(
            f"logits are {values.dtype} of shape {list(values.shape)}; give floating numbers "
            "[..., vocabulary] with at least one token"
        )
    if values.shape[-1] == 1:
        return np.where(np.isnan(values[..., 0]), np.nan, np.inf).astype(np.float32)
    # A partition puts NaN last, as if it were the largest: it comes out in the difference.
    best = np.partition(values, -2, axis=-1)[..., -2:]
    with np.errstate(invalid="ignore", over="ignore"):
        best = best.astype(np.float32)
        return np.asarray(best[..., 1] - best[..., 0], dtype=np.float32)


def aggregate(
    margins: npt.NDArray[np.float32], region: npt.NDArray[np.bool_], how: Aggregate
) -> npt.NDArray[np.float32]:
    """Return one number for each row, over the positions in its region.

    Parameters
    ----------
    margins
        float32 [rows, positions].
    region
        bool [rows, positions].
    how
        "mean" is summed in float64 and rounded once. "median" and "quantile" (of one fifth) lie
        on the line between the two nearest ranks. "min" is the smallest.

    Returns
    -------
    float32 [rows]
        +inf where the region is empty: there is nothing left to decide. NaN where a margin in the
        region is NaN. Neither ever halts a denoising.

    Raises
    ------
    InputError
        If the shapes differ or `how` is unknown.

    Examples
    --------
    >>> margins = np.array([[1.0, 9.0, 2.0, 6.0]], dtype=np.float32)
    >>> masked = np.array([[True, False, True, True]])
    >>> [float(aggregate(margins, masked, how)[0]) for how in ("mean", "median", "min")]
    [3.0, 2.0, 1.0]

    """
    check_aggregate(margins.shape, region.shape, how)
    count = region.sum(axis=1)
    if how == "mean":
        with np.errstate(invalid="ignore"):
            total = np.where(region, margins, 0).sum(axis=1, dtype=np.float64)
            mean = (total / np.maximum(count, 1)).astype(np.float32)
        return np.where(count > 0, mean, np.float32(np.inf))
    inside = np.where(region, margins, np.float32(np.inf))
    if how == "min":
        return np.asarray(inside.min(axis=1, initial=np.inf), dtype=np.float32)
    if inside.shape[1] == 0:
        return np.full(len(inside), np.inf, dtype=np.float32)
    part, whole = FRACTIONS[how]
    ordered = np.sort(inside, axis=1).astype(np.float64)
    rank = np.maximum(count - 1, 0) * part
    low, rest = rank // whole, rank % whole
    below = np.take_along_axis(ordered, low[:, np.newaxis], axis=1)[:, 0]
    above = np.take_along_axis(ordered, (low + (rest > 0))[:, np.newaxis], axis=1)[:, 0]
    with np.errstate(invalid="ignore"):
        between = below + (above - below) * (rest / whole)
    found = np.where(below == above, below, between).astype(np.float32)
    return np.where((region & np.isnan(margins)).any(axis=1), np.float32(np.nan), found)


def argmax_changed(
    now: npt.NDArray[np.integer],
    before: npt.NDArray[np.integer] | None,
    masked: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    """Say for each row whether a position masked now has another argmax than one step before.

    Parameters
    ----------
    now, before
        int [rows, positions], the tokens of the largest logits; `before` is None at the first step
        of a block, where all rows count as changed.
    masked
        bool [rows, positions], before this step fills anything in.

    Returns
    -------
    bool [rows]

    """
    if before is None:
        return np.ones(len(now), dtype=np.bool_)
    return np.asarray(((now != before) & masked).any(axis=1), dtype=np.bool_)


def check_aggregate(margins: tuple[int, ...], region: tuple[int, ...], how: str) -> None:
    """Refuse shapes that do not belong together, and unknown names."""
    if how not in SIGNALS:
        raise InputError(f"aggregate {how!r} is unknown; choose one of {', '.join(SIGNALS)}")
    if len(margins) != 2 or margins != region:
        raise InputError(
            f"margins have shape {list(margins)} and the region {list(region)}; both must be "
            "[rows, positions]"
        )
