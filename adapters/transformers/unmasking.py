"""Which masks a step fills in, on the device: tensors in, tensors out."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from adapters.transformers.sampler import Order


@dataclass(frozen=True, slots=True)
class Reading:
    """What the logits of a block say.

    Attributes
    ----------
    top
        int64 [rows, positions], the most probable token; the first of equals.
    rest
        float32 [rows, positions], how probable all other tokens together are, relative to it. Its
        probability is ``1 / (1 + rest)``; unlike that, `rest` tells 0.999999999 from 1.
    rank
        float32 [rows, positions], what the order sorts by: the smallest is filled in first.

    """

    top: torch.Tensor
    rest: torch.Tensor
    rank: torch.Tensor

    @property
    def probability(self) -> torch.Tensor:
        """Of the most probable token, float32 [rows, positions]."""
        return 1.0 / (1.0 + self.rest)


def read(logits: torch.Tensor, order: Order) -> Reading:
    """Read a block's logits.

    Parameters
    ----------
    logits
        [rows, positions, vocab], the mask token at -inf.
    order
        What `rank` is to be.

    Returns
    -------
    Reading
        `rank` is +inf where a logit is NaN: such a position is filled in last. Its token is
        whatever the NaN stands at.

    """
    wide = logits.to(torch.float32)
    best, top = wide.max(dim=-1, keepdim=True)
    below = wide - best
    odds = below.exp().scatter_(-1, top, 0.0)
    rest = odds.sum(dim=-1)
    if order == "confidence":
        rank = rest
    elif order == "entropy":
        # sum p log p with p = odds / (1 + rest); a token at -inf adds nothing.
        expected = (odds * below.clamp(min=-1e30)).sum(dim=-1) / (1.0 + rest)
        rank = rest.log1p() - expected
    else:
        rank = (odds.amax(dim=-1) - 1.0) / (1.0 + rest)
    return Reading(top.squeeze(-1), rest, rank.nan_to_num(nan=torch.inf, posinf=torch.inf))


def first(rank: torch.Tensor, masked: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """Choose each row's masks that come first; the leftmost of equals.

    Parameters
    ----------
    rank
        float32 [rows, positions].
    masked
        bool [rows, positions]; nothing else is chosen.
    count
        int64 [rows], how many.

    Returns
    -------
    bool [rows, positions]

    """
    # Sorted stably twice: first what is no mask goes behind, then ranks decide.
    by_rank = rank.argsort(dim=1, stable=True)
    by_mask = (~masked).gather(1, by_rank).to(torch.int8).argsort(dim=1, stable=True)
    ordered = by_rank.gather(1, by_mask)
    place = torch.arange(rank.shape[1], device=rank.device)
    chosen = torch.zeros_like(masked).scatter_(1, ordered, place < count[:, None])
    return chosen & masked


def divergence(now: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Return the Kullback-Leibler divergence of each position's distribution from an earlier one.

    Parameters
    ----------
    now, before
        float32 [rows, positions, vocab], log-probabilities; -inf where a token is banned in both.

    Returns
    -------
    float32 [rows, positions]
        ``sum now (log now - log before)`` in nats.

    """
    difference = torch.where(now > -torch.inf, now - before, 0.0)
    return (now.exp() * difference).sum(dim=-1)
