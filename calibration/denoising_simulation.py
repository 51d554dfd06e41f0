"""A simulator of full denoising decodes, so that a halting promise can be tried without a model.

One decode: a prompt of some difficulty; blocks of a fixed number of steps; in each block a commit
point from which filling in the argmax gives the full decode's tokens, and before it now and then
by luck. The margins are high where the block has settled, blurred by an effect of the prompt and
by AR(1) noise along the steps, over a trend: what is easy is filled first, so that the mean over
masked positions falls as the block goes on, while that over the whole span rises.

Nothing here is fitted to any model: calibration must hold on it whatever the dials, and figures
from it say nothing about steps saved on real prompts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from calibration.denoising import COLUMNS, DenoisingTable
from probes.errors import InputError

#: Of each signal: how far apart its settled and unsettled margins lie, and its trend over a block.
_SIGNALS: dict[str, tuple[float, float]] = {
    "masked.mean": (3.0, -4.0), "masked.median": (2.5, -4.0),
    "masked.quantile": (3.5, -2.5), "masked.min": (3.0, -1.0),
    "span.mean": (2.0, 3.0), "span.median": (1.5, 4.0),
    "span.quantile": (2.5, 2.0), "span.min": (2.5, -0.5),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class DenoisingSettings:
    """The dials.

    Attributes
    ----------
    traces, steps, blocks
        Decodes, denoising steps of a block, and blocks of a decode.
    noise
        Standard deviation of the margins around what the step's state makes them.
    prompt_effect
        Share of that variance which all steps of a prompt have in common, in [0, 1).
    autocorrelation
        Of the rest between neighbouring steps, in [0, 1).
    luck
        Chance that an unsettled step agrees all the same, once half way.
    seed
        The same seed gives the same decodes.
    """

    traces: int
    steps: int = 32
    blocks: int = 1
    noise: float = 2.0
    prompt_effect: float = 0.3
    autocorrelation: float = 0.6
    luck: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        checks = {
            "traces": (self.traces >= 1, "at least 1"),
            "steps": (self.steps >= 1, "at least 1"),
            "blocks": (self.blocks >= 1, "at least 1"),
            "noise": (0 < self.noise < math.inf, "positive"),
            "prompt_effect": (0 <= self.prompt_effect < 1, "in [0, 1)"),
            "autocorrelation": (0 <= self.autocorrelation < 1, "in [0, 1)"),
            "luck": (0 <= self.luck <= 1, "in [0, 1]"),
            "seed": (self.seed >= 0, "at least 0"),
        }
        assert checks.keys() == {field.name for field in fields(self)}
        for name, (holds, wanted) in checks.items():
            if not holds:
                raise InputError(
                    f"simulator: {name} is {getattr(self, name)}; it must be {wanted}."
                )


def simulate_denoising(settings: DenoisingSettings) -> DenoisingTable:
    """Draw full decodes, one a prompt; ids contain the seed, so that seeds share no group."""
    rng = np.random.default_rng([settings.seed, 77])
    n, blocks, steps = settings.traces, settings.blocks, settings.steps
    difficulty = rng.random(n)
    shape = (n, blocks, steps)
    place = np.arange(steps) / max(1, steps - 1)
    mean = 0.1 + 0.6 * difficulty[:, None]
    commit = rng.beta(4.0 * mean, 4.0 * (1 - mean), size=(n, blocks))[..., None]
    settled = place >= commit
    lucky = rng.random(shape) < settings.luck * np.minimum(1.0, 2 * place)
    agree = settled | lucky
    agree[..., -1] = True  # the last step is the full decode
    noise = _noise(rng, settings, shape)
    values = np.empty((*shape, len(COLUMNS)), dtype=np.float32)
    for index, name in enumerate(COLUMNS):
        gap, trend = _SIGNALS[name]
        own = rng.standard_normal(shape) * 0.5
        margin = 8.0 + gap * settled + trend * place + settings.noise * noise + own
        values[..., index] = np.maximum(margin, 0.0)
    changed = rng.random(shape) < np.where(settled, 0.1, 0.7)
    changed[..., 0] = True
    right = rng.random(n) < expit(3.5 - 4.0 * difficulty)
    correct = np.where(agree, right[:, None, None], rng.random(shape) < 0.1)
    total = n * blocks * steps
    return DenoisingTable(
        signals=COLUMNS,
        values=values.reshape(total, len(COLUMNS)),
        progress=np.broadcast_to(place.astype(np.float32), shape).reshape(total).copy(),
        changed=changed.reshape(total),
        agree=agree.reshape(total),
        correct=correct.reshape(total).astype(np.int8),
        block_offsets=np.arange(n * blocks + 1, dtype=np.int64) * steps,
        trace_offsets=np.arange(n + 1, dtype=np.int64) * blocks,
        trace_ids=tuple(f"sim{settings.seed}-t{row}" for row in range(n)),
        groups=tuple(f"sim{settings.seed}-p{row}" for row in range(n)),
        levels=tuple("hard" if hard else "easy" for hard in difficulty > 0.5),
        settings={
            "sampler": {
                "steps": steps, "block_length": steps, "canvas_length": steps * blocks,
                "order": "simulated",
            }
        },
    )  # fmt: skip


def _noise(
    rng: np.random.Generator, settings: DenoisingSettings, shape: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Draw unit-variance noise [n, blocks, steps]: the prompt's effect and AR(1) along a block."""
    noise = rng.standard_normal(shape)
    rho = settings.autocorrelation
    for step in range(1, shape[-1]):
        noise[..., step] = rho * noise[..., step - 1] + math.sqrt(1 - rho * rho) * noise[..., step]
    common = rng.standard_normal((shape[0], 1, 1))
    share = settings.prompt_effect
    return np.asarray(math.sqrt(1 - share) * noise + math.sqrt(share) * common)
