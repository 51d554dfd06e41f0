"""The sequence probe: torch's GRU to the bit, causal, and never scoring nonsense."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import makers
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sequences import memorable, spec, traces

from probes.errors import InputError, UnsupportedError
from probes.fit import fit_probe
from probes.network import Probe
from probes.scorers import require_servable, scorer_from_tensors
from probes.sequence import SequenceProbe, tensor_shapes
from probes.sequence_fit import fit_sequence
from probes.spec import ProbeSpec


def hidden(n: int = 40, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 18)).astype(np.float32)


def by_torch(probe: SequenceProbe, states: np.ndarray) -> np.ndarray:
    """The same tensors in torch's own modules, in float64."""
    tensors = {name: torch.from_numpy(array.copy()).double()
               for name, array in probe.to_tensors().items()}  # fmt: skip
    width = probe.spec.hidden_dims[0]
    gru = torch.nn.GRU(width, width, batch_first=True, dtype=torch.float64)
    gru.load_state_dict(
        {f"{name[4:]}_l0": tensor for name, tensor in tensors.items() if name.startswith("gru.")}
    )
    inputs = torch.from_numpy(states).double()
    with torch.no_grad():
        reads = inputs @ tensors["input.weight"].T + tensors["input.bias"]
        memory, _ = gru(reads[None])
        logit = memory[0] @ tensors["output.weight"].T + tensors["output.bias"]
        logit = logit + inputs @ tensors["direct.weight"].T
    return np.asarray(logit[:, 0].float().numpy())


def test_numpy_scores_as_torch_does() -> None:
    for seed in range(5):
        probe, states = makers.sequence_probe(seed=seed), hidden(300, seed)
        ours = probe.score(states)
        assert ours.dtype == np.float32
        np.testing.assert_array_max_ulp(ours, by_torch(probe, states), maxulp=1)


def test_a_score_depends_on_what_came_before_and_on_nothing_after() -> None:
    probe, states = makers.sequence_probe(), hidden()
    whole = probe.score(states)
    for cue in (0, 1, 7, 38):
        np.testing.assert_array_max_ulp(probe.score(states[: cue + 1]), whole[: cue + 1], 1)
        changed = states.copy()
        changed[cue + 1 :] += 5.0
        assert (probe.score(changed)[: cue + 1] == whole[: cue + 1]).all()
    earlier = states.copy()
    earlier[3] += 5.0
    again = probe.score(earlier)
    assert (again[:3] == whole[:3]).all()
    assert (again[4:8] != whole[4:8]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_a_cue_that_is_not_finite_has_no_score_and_is_not_remembered(bad: float) -> None:
    probe, states = makers.sequence_probe(), hidden(10)
    broken = np.insert(states, 4, np.full(18, bad, dtype=np.float32), axis=0)
    scores = probe.score(broken)
    if np.isfinite(bad):  # finite, but its logit is beyond all bounds; the memory saturates
        assert np.isnan(scores[4])
        assert np.isfinite(np.delete(scores, 4)).all()
    else:
        assert np.isnan(scores[4])
        np.testing.assert_array_max_ulp(np.delete(scores, 4), probe.score(states), 1)


def test_a_trace_without_cues_has_no_scores() -> None:
    assert makers.sequence_probe().score(np.zeros((0, 18), np.float32)).shape == (0,)


def test_tensors_round_trip_and_foreign_ones_are_refused() -> None:
    probe = makers.sequence_probe()
    tensors = probe.to_tensors()
    again = scorer_from_tensors(probe.spec, tensors)
    assert isinstance(again, SequenceProbe)
    assert (again.score(hidden()) == probe.score(hidden())).all()
    for changes, says in (
        ({"gru.bias_ih": np.zeros(3, "f4")}, r"gru.bias_ih is float32 \[3\]"),
        ({"output.bias": np.zeros(1)}, "output.bias is float64"),
        ({"output.bias": np.full(1, np.nan, "f4")}, "output.bias holds NaN"),
        ({"more": np.zeros(1, "f4")}, "its spec asks for"),
    ):
        with pytest.raises(InputError, match=says):
            SequenceProbe(probe.spec, tensors | changes)
    with pytest.raises(InputError, match="needs the kind 'gru'"):
        SequenceProbe(makers.spec(), tensors)
    with pytest.raises(InputError, match=r"have shape \[2, 3\], the probe reads \[n, 18\]"):
        probe.score(np.zeros((2, 3)))


@pytest.mark.parametrize("dims", [(), (4, 4)])
def test_a_gru_has_one_width(dims: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="a gru has exactly one"):
        ProbeSpec(kind="gru", layers=(1,), hidden_size=4, hidden_dims=dims)


def test_the_shapes_follow_the_spec() -> None:
    assert tensor_shapes(spec())["input.weight"] == (6, 6)
    assert tensor_shapes(spec(hidden_dims=(2,)))["gru.weight_hh"] == (6, 2)


def test_only_probes_without_memory_are_servable() -> None:
    probe = makers.probe()
    assert require_servable(probe, "here") is probe
    with pytest.raises(UnsupportedError, match=r"^here: its probe is a gru.*--probe linear"):
        require_servable(makers.sequence_probe(), "here")


# Fitting


def test_memory_is_learnt_where_it_helps_and_metrics_are_of_other_prompts() -> None:
    data = traces()
    result = fit_sequence(data, spec(), seed=0)
    known = data.labelled
    plain = fit_probe(
        data.hidden[known], data.labels[known] == 1, data.cue_groups[known], spec("linear")
    )
    assert isinstance(plain.probe, Probe)
    assert result.metrics["auroc"] is not None
    assert plain.metrics["auroc"] is not None
    assert result.metrics["auroc"] > 0.9 > plain.metrics["auroc"] + 0.1
    assert result.metrics["ece"] is not None
    assert result.metrics["ece"] < 0.1
    assert result.chosen["held_out_groups"] in range(25, 31)
    assert result.chosen["groups"] in range(140, 151)
    fresh = traces(seed=9)
    pairs = list(pairwise(fresh.offsets))
    scores = np.concatenate([result.probe.score(fresh.hidden[low:high]) for low, high in pairs])
    good, bad = scores[fresh.labels == 1], scores[fresh.labels == 0]
    assert np.median(good) > 2 > -1 > np.median(bad)


def test_the_same_seed_gives_the_same_weights_and_leaves_torch_alone() -> None:
    data = traces(40)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, two, other = (fit_sequence(data, spec(), seed=seed).probe for seed in (3, 3, 4))
    assert torch.rand(1) == expected
    for name, tensor in one.to_tensors().items():
        assert (tensor == two.to_tensors()[name]).all()
    assert (one.to_tensors()["input.weight"] != other.to_tensors()["input.weight"]).any()


def test_no_prompt_is_on_both_sides_of_the_measurement() -> None:
    result = fit_sequence(memorable(), spec(hidden_size=30))
    assert result.metrics["auroc"] is not None
    assert result.metrics["auroc"] < 0.7  # with a leak 0.79 or more


def test_what_cannot_teach_it_is_refused() -> None:
    data = traces(20)
    with pytest.raises(InputError, match="one class only"):
        fit_sequence(data.keep_cues(data.labels == 1), spec())
    with pytest.raises(InputError, match="too few to hold any out"):
        fit_sequence(replace(data, groups=np.full(len(data), "p")), spec())
    with pytest.raises(InputError, match="reads whole traces"):
        fit_probe(data.hidden, data.labels == 1, data.cue_groups, spec())
