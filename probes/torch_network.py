"""The same probe on the engine's device: no host synchronisation, no branches on data."""

from __future__ import annotations

import torch

from probes.network import MAX_SCORE, Probe


class TorchProbe(torch.nn.Module):  # type: ignore[misc]  # mypy skips torch
    """Score hidden states where they lie; equal to :meth:`probes.network.Probe.score`.

    Parameters
    ----------
    probe
        The weights; they are copied.
    device
        Where to score.
    dtype
        Arithmetic. float64 (the default) makes the float32 score independent of batch size and
        device but for about one rounding in 2**29; float32 only where a device lacks float64.

    """

    def __init__(
        self,
        probe: Probe,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self.spec = probe.spec
        self.depth = len(probe.layers)
        for index, (weight, bias) in enumerate(probe.layers):
            # Buffers, not parameters: nothing here is ever trained.
            for name, array in ((f"weight{index}", weight), (f"bias{index}", bias)):
                tensor = torch.from_numpy(array.copy()).to(device=device, dtype=dtype)
                self.register_buffer(name, tensor, persistent=False)
        self.dtype = dtype

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Score hidden states.

        Parameters
        ----------
        hidden
            [n, input_dim], any floating dtype; the spec's layers side by side.

        Returns
        -------
        float32 [n]
            Logits; NaN where the hidden state or the logit is not finite.

        """
        state = hidden.to(self.dtype)
        finite = torch.isfinite(state).all(dim=1)
        for index in range(self.depth):
            if index:
                state = torch.relu(state)
            weight, bias = self.get_buffer(f"weight{index}"), self.get_buffer(f"bias{index}")
            state = torch.nn.functional.linear(state, weight, bias)
        logit = state.squeeze(1)
        # Not above the bound is false for NaN as well: one comparison covers all.
        finite = finite & (logit.abs() <= MAX_SCORE)
        return torch.where(finite, logit, torch.nan).to(torch.float32)


def shape_scores(
    scores: torch.Tensor, lows: torch.Tensor, weight: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Shape one new score per trace on the device; see :class:`probes.shaping.RunningShape`.

    Parameters
    ----------
    scores
        float32 [n], raw logits of the newest cue; NaN allowed.
    lows
        float32 [n], running minimum per trace, +inf before its first cue.
    weight
        The spec's ``rise_weight``; 0 for shaping "raw".

    Returns
    -------
    shaped, lows
        float32 [n] each. A NaN score gives NaN and leaves its minimum as it was.

    """
    lows = torch.fmin(lows, scores)
    # Three separate operations: a fused multiply-add would round once where numpy rounds twice.
    rise = scores - lows
    return scores + rise * weight, lows
