"""Levels found again and again on recorded decodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration.denoising_simulation import DenoisingSettings, simulate_denoising
from calibration.halting_redraws import redraw
from probes.errors import InputError, TooFewTraces


def test_a_level_keeps_alpha_on_the_other_halves() -> None:
    table = simulate_denoising(DenoisingSettings(800, steps=8, seed=5))
    scores = table.column("masked.mean")
    kept = redraw(scores, table, 0.1, "ltt", 0.9, 40)
    assert (kept.n_calibrate, kept.n_test) == (400, 400)
    assert kept.mean_risk <= 0.1
    assert kept.clearly_above == 0
    # Where every halt agrees, nothing is calibrated away: all halt at the first step.
    blind = replace(table, agree=np.ones_like(table.agree))
    assert redraw(scores, blind, 0.1, "ltt", 0.9, 5).speedup == pytest.approx(8.0)


def test_the_same_seed_gives_the_same_halves() -> None:
    table = simulate_denoising(DenoisingSettings(120, steps=4, seed=1))
    scores = table.column("masked.mean")
    first = redraw(scores, table, 0.1, "crc", 0.9, 5, seed=3)
    assert first == redraw(scores, table, 0.1, "crc", 0.9, 5, seed=3)
    assert first != redraw(scores, table, 0.1, "crc", 0.9, 5, seed=4)
    assert first.to_json()["count"] == 5


def test_what_cannot_be_repeated_is_refused() -> None:
    table = simulate_denoising(DenoisingSettings(40, steps=4, seed=1))
    scores = table.column("masked.mean")
    with pytest.raises(InputError, match="at least 1"):
        redraw(scores, table, 0.1, "ltt", 0.9, 0)
    with pytest.raises(TooFewTraces):
        redraw(scores, table, 0.01, "ltt", 0.9, 5)
    one_group = replace(table, groups=("same",) * len(table))
    with pytest.raises(InputError, match="one of each"):
        redraw(scores, one_group, 0.1, "ltt", 0.9, 5)
