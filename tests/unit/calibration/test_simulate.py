import dataclasses

import numpy as np
import pytest

from calibration.evaluate import auroc
from calibration.losses import LOSSES, bad_cues
from calibration.simulate import SimulatorSettings, simulate
from probes.errors import InputError


def test_the_same_seed_gives_the_same_traces_and_another_shares_none() -> None:
    first, again, other = (
        simulate(SimulatorSettings(50, seed=seed, rollouts=2)) for seed in (3, 3, 4)
    )
    assert list(first.traces()) == list(again.traces())
    assert not set(first.trace_ids) & set(other.trace_ids)
    assert not set(first.groups) & set(other.groups)


@pytest.mark.parametrize("cues", [1, 3, 10, 30])
def test_the_dials_come_out(cues: int) -> None:
    table = simulate(SimulatorSettings(20_000, cues=cues, seed=1))
    assert table.n_cues / len(table) == pytest.approx(cues, rel=0.02)
    assert auroc(table.scores, table.correct == 1) == pytest.approx(0.94, abs=0.01)
    for loss in LOSSES:
        assert 0.05 < bad_cues(table, loss).mean() < 0.95
    for row in range(0, len(table), 97):
        positions = table.positions[table.offsets[row] : table.offsets[row + 1]]
        assert (np.diff(positions) > 0).all()
        assert positions[-1] <= table.tokens[row]


def test_one_cue_means_exactly_one() -> None:
    table = simulate(SimulatorSettings(100, cues=1))
    assert np.diff(table.offsets).tolist() == [1] * 100


def test_harder_problems_are_longer_and_more_often_wrong() -> None:
    table = simulate(SimulatorSettings(20_000, seed=2))
    right = table.full_correct == 1
    assert table.tokens[right].mean() < 0.9 * table.tokens[~right].mean()


def test_traces_overthink() -> None:
    """The right answer is there long before the end, and sometimes it is lost again."""
    table = simulate(SimulatorSettings(5000, seed=2))
    full_right = (table.full_correct == 1)[table.rows]
    assert (full_right & (table.correct == 1)).any()
    assert (~full_right & (table.correct == 1)).mean() > 0.01


def test_neighbouring_scores_err_together() -> None:
    def correlation(**dials) -> float:
        table = simulate(SimulatorSettings(4000, cues=10, seed=1, **dials))
        noise = table.scores - np.where(
            table.correct == 1,
            table.scores[table.correct == 1].mean(),
            table.scores[table.correct == 0].mean(),
        )
        same = table.rows[1:] == table.rows[:-1]
        return float(np.corrcoef(noise[:-1][same], noise[1:][same])[0, 1])

    assert correlation(trace_effect=0.3, autocorrelation=0.5) == pytest.approx(0.65, abs=0.03)
    assert correlation(trace_effect=0.0, autocorrelation=0.0) == pytest.approx(0.0, abs=0.03)


def test_rollouts_share_the_prompt() -> None:
    table = simulate(SimulatorSettings(10, rollouts=4))
    assert list(table.groups) == [f"sim0-p{i // 4}" for i in range(10)]


def test_traces_without_cues_and_the_other_signal() -> None:
    table = simulate(SimulatorSettings(4000, no_cues=0.25, signal="agrees", seed=5))
    assert (np.diff(table.offsets) == 0).mean() == pytest.approx(0.25, abs=0.03)
    assert auroc(table.scores, table.agrees == 1) == pytest.approx(0.94, abs=0.01)
    lone = simulate(SimulatorSettings(1, no_cues=0.999, seed=1))
    assert len(lone) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("traces", 0), ("cues", 0.5), ("cues", float("nan")), ("rollouts", 0), ("auroc", 1.0),
        ("auroc", 0.5), ("signal", "luck"), ("trace_effect", 1.0), ("prompt_effect", 0.8),
        ("autocorrelation", 1.0), ("flicker", 1.1), ("no_cues", 1.0), ("seed", -1),
    ],
)  # fmt: skip
def test_a_dial_out_of_range_is_named(name: str, value: object) -> None:
    settings = SimulatorSettings(10)
    with pytest.raises(InputError, match=f"simulator: (trace_effect|{name})"):
        dataclasses.replace(settings, **{name: value})
