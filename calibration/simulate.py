"""A simulator of reasoning traces, so that the promise can be tried and tested without a GPU.

One trace: a problem of some difficulty; thinking that is longer the harder the problem; a commit
point from which the thinking holds its final answer, right or wrong; before it other answers, now
and then the gold one by luck; a little flicker after it. Scores are logits of a probe that sees
whether the answer at hand is right, blurred by an effect of the prompt, an effect of the trace and
AR(1) noise along the trace: neighbouring cues err together, as real ones do.

Nothing here is fitted to any model. It exists to check calibration, which must hold on it whatever
the dials; figures from it say nothing about tokens saved on real traffic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtri

from calibration.table import CueTable, Looks
from probes.errors import InputError


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """The dials.

    Attributes
    ----------
    traces
        Number of traces.
    cues
        Mean number of cues per trace, at least 1. A trace has 1 + Poisson cues, more on harder
        problems; exactly 1 when `cues` is 1.
    rollouts
        Traces per prompt; they share the group, the difficulty and the prompt's effect.
    auroc
        Of the score against the cue's label `signal`, all cues pooled, in (0.5, 1).
    signal
        ``correct`` or ``agrees``: the label that the score sees.
    prompt_effect, trace_effect
        Shares of the score's noise variance common to a prompt and to a trace; sum below 1.
    autocorrelation
        Of the remaining noise between neighbouring cues, in [0, 1).
    flicker
        Probability that an answer after the commit point is not the final one.
    no_cues
        Share of traces without any cue.
    looks
        Also draw what forced answers tell: whether they repeat, their confidence, their length.
    seed
        The same seed gives the same traces.
    """

    traces: int
    cues: float = 10.0
    rollouts: int = 1
    auroc: float = 0.94
    signal: str = "correct"
    prompt_effect: float = 0.0
    trace_effect: float = 0.3
    autocorrelation: float = 0.5
    flicker: float = 0.05
    no_cues: float = 0.0
    looks: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        checks = {
            "traces": (self.traces >= 1, "at least 1"),
            "cues": (1 <= self.cues <= 1000, "between 1 and 1000"),
            "rollouts": (self.rollouts >= 1, "at least 1"),
            "auroc": (0.5 < self.auroc < 1, "strictly between 0.5 and 1"),
            "signal": (self.signal in ("correct", "agrees"), "'correct' or 'agrees'"),
            "prompt_effect": (0 <= self.prompt_effect < 1, "in [0, 1)"),
            "trace_effect": (
                0 <= self.trace_effect < 1 - self.prompt_effect,
                "at least 0 and below 1 - prompt_effect",
            ),
            "autocorrelation": (0 <= self.autocorrelation < 1, "in [0, 1)"),
            "flicker": (0 <= self.flicker <= 1, "in [0, 1]"),
            "no_cues": (0 <= self.no_cues < 1, "in [0, 1)"),
            "looks": (isinstance(self.looks, bool), "True or False"),
            "seed": (self.seed >= 0, "at least 0"),
        }
        assert checks.keys() == {field.name for field in fields(self)}
        for name, (holds, wanted) in checks.items():
            if not holds:
                raise InputError(
                    f"simulator: {name} is {getattr(self, name)}; it must be {wanted}."
                )


def simulate(settings: SimulatorSettings) -> CueTable:
    """Draw traces.

    Returns
    -------
    A table of ``settings.traces`` traces, all labels known. Identifiers contain the seed: tables of
    different seeds share no trace and no group.
    """
    rng = np.random.default_rng(settings.seed)
    n = settings.traces
    prompt = np.arange(n) // settings.rollouts
    n_prompts = int(prompt[-1]) + 1
    difficulty = rng.random(n_prompts)[prompt]

    full_right = rng.random(n) < expit(3.5 - 4.0 * difficulty)
    counts = 1 + rng.poisson((settings.cues - 1) * (0.5 + difficulty))
    counts[rng.random(n) < settings.no_cues] = 0
    width = max(1, int(counts.max()))
    present = np.arange(width) < counts[:, np.newaxis]

    # Gaps between cues, in tokens; one more gap leads from the last cue to the end.
    mean_gap = 40.0 + 60.0 * difficulty[:, np.newaxis]
    gaps = 1 + rng.poisson(rng.gamma(4.0, mean_gap / 4.0, size=(n, width + 1)))
    positions = np.cumsum(gaps, axis=1)
    tokens = positions[np.arange(n), counts]
    progress = positions[:, :width] / tokens[:, np.newaxis]

    mean_commit = 0.25 + 0.5 * difficulty
    commit = rng.beta(4.0 * mean_commit, 4.0 * (1 - mean_commit))
    correct, agrees = _draw_labels(rng, settings, full_right, difficulty, progress, commit)

    seen = correct if settings.signal == "correct" else agrees
    scores = _draw_scores(rng, settings, seen, present, prompt, n_prompts)
    looks = _draw_looks(settings.seed, correct, agrees, present) if settings.looks else None
    return CueTable(
        trace_ids=[f"sim{settings.seed}-t{row}" for row in range(n)],
        groups=[f"sim{settings.seed}-p{index}" for index in prompt],
        tokens=tokens.astype(np.int64),
        full_correct=full_right.astype(np.int8),
        offsets=np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)]),
        positions=positions[:, :width][present].astype(np.int64),
        scores=scores[present],
        correct=correct[present].astype(np.int8),
        agrees=agrees[present].astype(np.int8),
        looks=looks,
    )


def simulate_tables(settings: SimulatorSettings) -> Iterator[CueTable]:
    """Draw traces in batches, so that any number of them fits the memory.

    Up to 50,000 traces of 10 cues (fewer of longer ones) it is :func:`simulate`. Beyond, batches of
    that many are drawn, each with a seed of its own that follows from ``settings.seed``; rollouts
    of a prompt stay together.
    """
    size = max(1, round(500_000 / settings.cues / settings.rollouts)) * settings.rollouts
    for number, first in enumerate(range(0, settings.traces, size)):
        words = np.random.SeedSequence([settings.seed, number]).generate_state(1, np.uint64)
        yield simulate(
            replace(
                settings,
                traces=min(size, settings.traces - first),
                seed=int(words[0]) if settings.traces > size else settings.seed,
            )
        )


def _draw_labels(
    rng: np.random.Generator,
    settings: SimulatorSettings,
    full_right: NDArray[np.bool_],
    difficulty: NDArray[np.float64],
    progress: NDArray[np.float64],
    commit: NDArray[np.float64],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Draw (correct, agrees), bool[n, width] each, from the answer held at each cue."""
    shape = progress.shape
    committed = (progress >= commit[:, np.newaxis]) & (rng.random(shape) >= settings.flicker)
    # Elsewhere the answer is gold by luck, the wrong final one by anticipation, or a third one.
    lucky = rng.random(shape) < 0.3 * (1 - difficulty[:, np.newaxis])
    anticipated = ~lucky & (rng.random(shape) < 0.15)
    right_at_end = full_right[:, np.newaxis]
    correct = np.where(committed, right_at_end, lucky)
    agrees = committed | np.where(right_at_end, lucky, anticipated)
    return correct, agrees


def _draw_scores(
    rng: np.random.Generator,
    settings: SimulatorSettings,
    seen: NDArray[np.bool_],
    present: NDArray[np.bool_],
    prompt: NDArray[np.int64],
    n_prompts: int,
) -> NDArray[np.float32]:
    """Draw float32[n, width] logits of two unit normals `gap` apart, which gives the AUROC."""
    n, width = seen.shape
    gap = math.sqrt(2.0) * float(ndtri(settings.auroc))
    noise = np.empty((n, width), dtype=np.float64)
    rho = settings.autocorrelation
    noise[:, 0] = rng.standard_normal(n)
    for cue in range(1, width):
        fresh = rng.standard_normal(n)
        noise[:, cue] = rho * noise[:, cue - 1] + math.sqrt(1 - rho * rho) * fresh
    noise *= math.sqrt(1 - settings.prompt_effect - settings.trace_effect)
    noise += math.sqrt(settings.trace_effect) * rng.standard_normal((n, 1))
    noise += math.sqrt(settings.prompt_effect) * rng.standard_normal((n_prompts, 1))[prompt]
    # With the log-odds of the label added, the score is the calibrated logit of this model.
    share = float(np.clip(seen[present].mean() if present.any() else 0.5, 0.01, 0.99))
    prior = math.log(share / (1 - share))
    logits = gap * (np.where(seen, gap / 2, -gap / 2) + noise) + prior
    return logits.astype(np.float32)


def _draw_looks(
    seed: int, correct: NDArray[np.bool_], agrees: NDArray[np.bool_], present: NDArray[np.bool_]
) -> Looks:
    """Draw what the answers forced at the cues tell, from a generator of its own.

    Two neighbouring answers are the same if both are the final one or both the gold one; two others
    by chance. Confidence is higher where the answer is the final one.
    """
    rng = np.random.default_rng([seed, 1])
    shape = correct.shape
    same = np.zeros(shape, dtype=np.bool_)
    both = (agrees[:, 1:] & agrees[:, :-1]) | (correct[:, 1:] & correct[:, :-1])
    neither = ~(agrees | correct)
    chance = neither[:, 1:] & neither[:, :-1] & (rng.random((shape[0], shape[1] - 1)) < 0.2)
    same[:, 1:] = both | chance
    repeats = np.zeros(shape, dtype=np.int32)
    for cue in range(1, shape[1]):
        repeats[:, cue] = np.where(same[:, cue], repeats[:, cue - 1] + 1, 0)
    confidences = expit(np.where(agrees, 2.5, 0.5) + rng.standard_normal(shape))
    tokens = 1 + rng.poisson(5.0, size=shape)
    return Looks(
        repeats[present],
        confidences[present].astype(np.float32),
        tokens[present].astype(np.int32),
    )
