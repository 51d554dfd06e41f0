"""Training on first exits: the loss is the expected cost, and less of it is what is learnt."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from sequences import memorable, spec, traces

from probes.errors import InputError
from probes.first_exit import expected_cost, fit_first_exit
from probes.fit import fit_probe
from probes.network import Probe
from probes.torch_network import TorchProbe
from probes.training_traces import Standardiser, TrainingTraces


def by_hand(p: list[float], bad: list[int], costs: list[float], weight: float) -> float:
    """Walk along the cues: stop with probability p, else go on."""
    total, survived = 0.0, 1.0
    for chance, wrong, cost in zip(p, bad, costs, strict=True):
        total += survived * chance * (weight * wrong + cost)
        survived *= 1 - chance
    return total + survived


def test_the_loss_is_the_expected_cost_of_stopping_at_random() -> None:
    rng = np.random.default_rng(0)
    lengths, most = [1, 4, 6], 6
    logits, bad, costs, present = (torch.zeros(3, most, dtype=torch.float64) for _ in range(4))
    expected = []
    for row, length in enumerate(lengths):
        logit, wrong = rng.normal(size=length), rng.integers(0, 2, length)
        cost = np.sort(rng.random(length))
        logits[row, :length], bad[row, :length] = torch.tensor(logit), torch.tensor(wrong)
        costs[row, :length], present[row, :length] = torch.tensor(cost), 1
        p = (1 / (1 + np.exp(-logit))).tolist()
        expected.append(by_hand(p, wrong.tolist(), cost.tolist(), 3.0))
    found = expected_cost(logits, bad, costs, present.bool(), 3.0)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_extreme_logits_are_the_hard_rule_and_have_finite_gradients() -> None:
    logits = torch.tensor([[-1e4, 1e4, 1e4]], requires_grad=True)
    bad, costs = torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([[0.1, 0.4, 0.9]])
    cost = expected_cost(logits, bad, costs, torch.ones(1, 3, dtype=torch.bool), 10.0)
    assert cost.tolist() == pytest.approx([0.4])
    cost.sum().backward()
    assert torch.isfinite(logits.grad).all()


def hard_cost(probe: Probe, data: TrainingTraces, weight: float, level: float) -> float:
    """Mean cost of stopping above a level, trace by trace."""
    total = 0.0
    for low, high in pairwise(data.offsets):
        passing = np.flatnonzero(probe.score(data.hidden[low:high]) > level)
        if len(passing):
            cue = low + passing[0]
            total += weight * (data.labels[cue] == 0) + data.costs[cue]
        else:
            total += 1.0
    return total / len(data)


def test_it_gives_an_ordinary_probe_whose_zero_is_a_good_place_to_stop() -> None:
    data = traces(150, memory=False)
    result = fit_first_exit(data, spec("linear", shaping="raw"), bad_weight=3.0, seed=1)
    assert isinstance(result.probe, Probe)
    assert result.metrics["brier"] is None
    assert result.metrics["ece"] is None
    assert result.metrics["auroc"] is not None
    assert result.metrics["auroc"] > 0.9
    before, after = result.chosen["cost_before"], result.chosen["cost_after"]
    assert before is not None
    assert after is not None
    assert after < before
    fresh = traces(150, seed=7, memory=False)
    engine = TorchProbe(result.probe)(torch.from_numpy(fresh.hidden)).numpy()
    np.testing.assert_array_max_ulp(engine, result.probe.score(fresh.hidden), maxulp=1)
    fresh = fresh.keep_cues(fresh.labelled)
    at_zero = hard_cost(result.probe, fresh, 3.0, 0.0)
    levels = np.quantile(result.probe.score(fresh.hidden), np.linspace(0, 1, 40))
    best = min(hard_cost(result.probe, fresh, 3.0, float(level)) for level in levels)
    assert at_zero < 0.85
    assert at_zero < best + 0.05


def test_it_beats_the_label_of_single_cues_where_early_cues_mislead() -> None:
    """Two signals: one tells many late cues apart, the other the few first ones that decide."""
    rng = np.random.default_rng(0)
    count, length = 600, 10
    early = np.tile(np.arange(length) == 0, count)
    good = rng.random(count * length) < 0.5
    hidden = rng.normal(size=(count * length, 6))
    sign = np.where(good, 1.0, -1.0)
    hidden[:, 0] += np.where(early, -1.5 * sign, 1.5 * sign)  # misleads at the first cue
    hidden[:, 1] += np.where(early, 2.5 * sign, 0.3 * sign)
    data = TrainingTraces(
        hidden=hidden.astype(np.float32),
        offsets=np.arange(0, count * length + 1, length),
        labels=good.astype(np.int8),
        costs=np.tile((np.arange(length) + 1) / (length + 1), count),
        groups=np.array([f"p{index}" for index in range(count)]),
    )
    linear = spec("linear", shaping="raw")
    train, test = data.take(np.arange(300)), data.take(np.arange(300, 600))
    exits = fit_first_exit(train, linear, bad_weight=2.0)
    cues = fit_probe(train.hidden, train.labels == 1, train.cue_groups, linear)

    def cheapest(probe: object) -> float:
        assert isinstance(probe, Probe)
        levels = np.quantile(probe.score(test.hidden), np.linspace(0, 1, 60))
        return min(hard_cost(probe, test, 2.0, float(level)) for level in levels)

    assert cheapest(exits.probe) < 0.85 * cheapest(cues.probe)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_the_same_seed_gives_the_same_weights(kind: str) -> None:
    data = traces(40, memory=False)
    one, two = (fit_first_exit(data, spec(kind, shaping="rise")).probe for _ in range(2))
    for name, tensor in one.to_tensors().items():
        assert (tensor == two.to_tensors()[name]).all()


def test_no_prompt_is_on_both_sides_of_the_measurement() -> None:
    result = fit_first_exit(memorable(), spec("linear", hidden_size=30))
    assert result.metrics["auroc"] is not None
    assert result.metrics["auroc"] < 0.7  # with a leak 0.79 or more


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
def test_a_price_must_be_positive(weight: float) -> None:
    with pytest.raises(InputError, match="bad_weight"):
        fit_first_exit(traces(20), spec("linear"), bad_weight=weight)


def test_standardising_folds_and_unfolds() -> None:
    rng = np.random.default_rng(0)
    hidden = (rng.normal(size=(50, 4)) * [1, 10, 0.1, 0] + [100, -5, 0, 7]).astype(np.float32)
    scaling = Standardiser.of(hidden)
    weight, bias = rng.normal(size=(2, 4)), rng.normal(size=2)
    folded = scaling.fold(weight, bias)
    plain = hidden @ folded[0].T.astype(np.float64) + folded[1]
    np.testing.assert_allclose(plain, scaling.apply(hidden) @ weight.T + bias, atol=1e-4)
    again = scaling.unfold(*folded)
    np.testing.assert_allclose(again[0], weight, rtol=1e-6)
    np.testing.assert_allclose(again[1], bias, atol=1e-4)


def test_columns_of_unlike_length_are_refused() -> None:
    data = traces(5)
    with pytest.raises(ValueError, match="differ in length"):
        TrainingTraces(data.hidden, data.offsets, data.labels[1:], data.costs, data.groups)
