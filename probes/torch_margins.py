"""The same margins on the engine's device: no host synchronisation, no branches on data."""

from __future__ import annotations

import torch

from probes.errors import InputError
from probes.margins import FRACTIONS, Aggregate, check_aggregate

_BLOCK = 256
_FEWEST_BLOCKS = 16  # with fewer, a plain selection is as fast


def top2_margins(logits: torch.Tensor) -> torch.Tensor:
    """Return the largest minus the second largest logit; see :func:`probes.margins.top2_margins`.

    Parameters
    ----------
    logits
        [..., V] of any floating dtype, V at least 1; it is read, never written.

    Returns
    -------
    float32 [...]

    """
    if not logits.is_floating_point() or logits.ndim < 1 or logits.shape[-1] < 1:
        raise InputError(
            f"logits are {logits.dtype} of shape {list(logits.shape)}; give floating numbers "
            "[..., vocabulary] with at least one token"
        )
    if logits.shape[-1] == 1:
        only = logits[..., 0].to(torch.float32)
        return torch.where(torch.isnan(only), only, torch.inf)
    first, second = _best_two(logits)
    return first.to(torch.float32) - second.to(torch.float32)


def _best_two(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the two largest logits of each position; NaN counts as the largest of all.

    A selection over a whole vocabulary visits each logit several times. So one vectorised pass
    takes the maximum of each block of neighbours; the selection then sees these maxima and the one
    block that holds the largest. Some ten times faster at 32k tokens (`benchmarks/margins.py`), and
    exact: the second largest is the best of another block, or the second of that one.
    """
    blocks = logits.shape[-1] // _BLOCK
    if blocks < _FEWEST_BLOCKS:
        best = logits.topk(2, dim=-1).values
        return best[..., 0], best[..., 1]
    cut = logits[..., : blocks * _BLOCK].unflatten(-1, (blocks, _BLOCK))  # a view: nothing copied
    tops = cut.amax(dim=-1).topk(2, dim=-1)
    where = tops.indices[..., :1, None].expand(*logits.shape[:-1], 1, _BLOCK)
    rest = torch.cat([cut.gather(-2, where).squeeze(-2), logits[..., blocks * _BLOCK :]], dim=-1)
    best = rest.topk(2, dim=-1).values
    return best[..., 0], torch.maximum(best[..., 1], tops.values[..., 1])


def aggregate(margins: torch.Tensor, region: torch.Tensor, how: Aggregate) -> torch.Tensor:
    """Return one number for each row over its region; see :func:`probes.margins.aggregate`.

    Parameters
    ----------
    margins
        float32 [rows, positions].
    region
        bool [rows, positions].
    how
        One of :data:`probes.margins.SIGNALS`.

    Returns
    -------
    float32 [rows]

    """
    check_aggregate(tuple(margins.shape), tuple(region.shape), how)
    count = region.sum(dim=1)
    if how == "mean":
        total = torch.where(region, margins, 0).sum(dim=1, dtype=torch.float64)
        return torch.where(count > 0, total / count, torch.inf).to(torch.float32)
    inside = torch.where(region, margins, torch.inf)
    if inside.shape[1] == 0:
        return margins.new_full((len(margins),), torch.inf)
    if how == "min":
        return inside.amin(dim=1)
    part, whole = FRACTIONS[how]
    ordered = inside.sort(dim=1).values.to(torch.float64)
    rank = (count - 1).clamp(min=0) * part
    low, rest = rank // whole, rank % whole
    below = ordered.gather(1, low.unsqueeze(1)).squeeze(1)
    above = ordered.gather(1, (low + (rest > 0)).unsqueeze(1)).squeeze(1)
    between = below + (above - below) * (rest.to(torch.float64) / whole)
    found = torch.where(below == above, below, between)
    broken = (region & torch.isnan(margins)).any(dim=1)
    return torch.where(broken, torch.nan, found).to(torch.float32)


def argmax_changed(
    now: torch.Tensor, before: torch.Tensor | None, masked: torch.Tensor
) -> torch.Tensor:
    """Say which rows' masked argmaxes moved; see :func:`probes.margins.argmax_changed`.

    Parameters
    ----------
    now, before
        int [rows, positions]; `before` is None at a block's first step.
    masked
        bool [rows, positions].

    Returns
    -------
    bool [rows]

    """
    if before is None:
        return torch.ones(len(now), dtype=torch.bool, device=now.device)
    return ((now != before) & masked).any(dim=1)


def halting_scores(
    signal: torch.Tensor, thresholds: torch.Tensor, changed: torch.Tensor | None = None
) -> torch.Tensor:
    """Return each row's halting score: how far its signal lies above its threshold.

    The twin of :meth:`stopper.halting.HaltingRule.score`: a row halts where its score is above
    its level, both float32. The thresholds come from that rule's table, indexed by each row's
    step on the device, since no two libraries agree on the last bit of an exponential.

    Parameters
    ----------
    signal
        float32 [rows], from :func:`aggregate`.
    thresholds
        float32 [rows], for example ``table[step]`` of ``rule.thresholds(steps)``.
    changed
        bool [rows], from :func:`argmax_changed`, if the rule has ``stable_argmax``; else None.

    Returns
    -------
    float32 [rows]
        -inf, which never halts, where the gate forbids it or the signal is not finite.

    """
    score = signal - thresholds
    open_ = torch.isfinite(score)
    if changed is not None:
        open_ = open_ & ~changed
    return torch.where(open_, score, -torch.inf)
