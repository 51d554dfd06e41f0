"""What a request's scores must exceed: from an artifact's promise, or 0 for a hand-picked rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from adapters.vllm.request_options import RequestOptions
from stopper.errors import InputError
from stopper.halting_policy import HaltingPolicy

#: Requests that ask vLLM for another canvas than the one a rule was made for.
OTHER_CANVAS = (
    "diffusion_canvas_length",
    "diffusion_seed_canvas",
    "diffusion_pinned",
    "diffusion_read_only",
    "diffusion_constrained",
)


class RefusedError(Exception):
    """Why a request is not put under watch: the `reason` of its record."""

    def __init__(self, reason: str, alpha: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.alpha = alpha


@dataclass(frozen=True, slots=True)
class Level:
    """What a request is judged by; `steps` is its own cap, `alpha` None without a promise."""

    value: np.float32
    steps: int
    alpha: float | None


class Levels:
    """Levels by request.

    Parameters
    ----------
    policy
        The artifact's; None for a hand-picked rule, whose level is 0.
    alpha
        The server's; None takes the policy's own.

    """

    def __init__(self, policy: HaltingPolicy | None, alpha: float | None = None) -> None:
        self._policy = policy
        self._alpha = alpha

    @property
    def promised(self) -> bool:
        """Whether an artifact's promise stands behind the levels."""
        return self._policy is not None

    def of(self, options: RequestOptions, params: Any, lora: Any, max_steps: int) -> Level:
        """Return what a request is judged by.

        Parameters
        ----------
        params
            vLLM's `SamplingParams`, whose `extra_args` may lower the cap on steps.
        lora
            Its adapter, if any.
        max_steps
            The server's cap.

        Raises
        ------
        RefusedError
            With the reason for its record.

        """
        if params is None:
            raise RefusedError("no_sampling_params")
        if options.mode == "fixed":
            raise RefusedError("no_fixed_threshold")
        if lora is not None:
            raise RefusedError("lora")
        extra = params.extra_args or {}
        if any(extra.get(name) for name in OTHER_CANVAS):
            raise RefusedError("diffusion_options")
        asked = extra.get("diffusion_max_steps")
        steps = max_steps if asked is None else max(1, min(int(asked), max_steps))
        if self._policy is None:
            if options.alpha is not None:
                raise RefusedError("no_promise", options.alpha)
            return Level(np.float32(0.0), steps, None)
        alpha = next(
            one for one in (options.alpha, self._alpha, self._policy.alpha) if one is not None
        )
        if steps != max_steps:
            raise RefusedError("diffusion_max_steps", alpha)
        try:
            level = self._policy.level(alpha)
        except InputError:
            raise RefusedError("alpha_not_calibrated", alpha) from None
        if level == np.inf:
            raise RefusedError("too_few_calibration_traces", alpha)
        return Level(level, steps, alpha)
