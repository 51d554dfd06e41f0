"""The Muon optimizer in float32: torch's own runs in bfloat16, which older CPUs only emulate."""

from __future__ import annotations

from collections.abc import Iterable

import torch


def orthogonal(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Return about the nearest matrix with singular values near 1, by Newton-Schulz steps.

    The quintic's coefficients are those of K. Jordan's Muon (2024).
    """
    tall = matrix.shape[0] > matrix.shape[1]
    found = matrix.T if tall else matrix
    found = found / (found.norm() + 1e-7)
    for _ in range(steps):
        square = found @ found.T
        found = 3.4445 * found + (-4.7750 * square + 2.0315 * square @ square) @ found
    return found.T if tall else found


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal; for the matrices inside a network.

    Parameters
    ----------
    parameters
        Matrices only.
    lr, momentum, weight_decay
        The decay is decoupled and scaled by ``lr``.

    """

    def __init__(
        self,
        parameters: Iterable[torch.Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        settings = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(parameters, settings)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                running = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(running, group["momentum"])
                rows, columns = parameter.shape
                scale = max(1.0, rows / columns) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(orthogonal(ahead), alpha=-group["lr"] * scale)
