"""Several candidates certified at once by MAPIE."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.risk import minimum_units
from calibration.simultaneous import CORRECTIONS, fewest_units, valid_candidates
from probes.errors import InputError, TooFewTraces

RNG = np.random.default_rng(4)
RISKS = np.array([0.3, 0.0, 0.01, 0.2, 0.02])
LOSSES = RNG.random((600, 5)) < RISKS
LEARNING = RNG.random((400, 5)) < RISKS


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_what_is_safe_is_certified_and_what_is_not_is_not(correction: str) -> None:
    learning = LEARNING if correction == "split_fixed_sequence" else None
    found = valid_candidates(LOSSES, 0.1, 0.9, correction, learning)  # type: ignore[arg-type]
    assert set(found.tolist()) >= {1, 2}
    assert not set(found.tolist()) & {0, 3}


def test_nothing_is_certified_where_all_are_bad() -> None:
    assert len(valid_candidates(LOSSES[:, [0, 3]], 0.1, 0.9)) == 0


def test_the_smallest_number_of_units_grows_with_the_candidates_under_holm_alone() -> None:
    assert fewest_units(1, 0.1, 0.9, "bonferroni_holm") == minimum_units("ltt", 0.1, 0.9)
    assert fewest_units(50, 0.1, 0.9, "bonferroni_holm") > minimum_units("ltt", 0.1, 0.9)
    assert fewest_units(50, 0.1, 0.9, "split_fixed_sequence") == minimum_units("ltt", 0.1, 0.9)


@pytest.mark.parametrize("n", [1, 5])
def test_at_the_smallest_number_a_candidate_that_is_never_bad_is_certified(n: int) -> None:
    units = fewest_units(n, 0.1, 0.9, "bonferroni_holm")
    assert len(valid_candidates(np.zeros((units, n), np.bool_), 0.1, 0.9)) == n
    with pytest.raises(TooFewTraces, match="so 1 more"):
        valid_candidates(np.zeros((units - 1, n), np.bool_), 0.1, 0.9)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((LOSSES, 1.5, 0.9), "alpha is 1.5"),
        ((LOSSES, 0.1, 0.9, "none"), "correction 'none' is unknown"),
        ((LOSSES[:, :0], 0.1, 0.9), "no candidate"),
        ((LOSSES, 0.1, 0.9, "split_fixed_sequence"), "needs units that give the order"),
        ((LOSSES, 0.1, 0.9, "bonferroni_holm", LEARNING), "takes no order"),
        ((LOSSES, 0.1, 0.9, "split_fixed_sequence", LEARNING[:, :2]), "the same candidates"),
    ],
    ids=["alpha", "correction", "candidates", "no order", "order", "other candidates"],
)  # fmt: skip
def test_arguments_out_of_range_are_refused(arguments: tuple[object, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        valid_candidates(*arguments)  # type: ignore[arg-type]
