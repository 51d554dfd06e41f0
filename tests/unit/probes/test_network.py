"""A probe scores alike in numpy and torch, at any batch size, and never scores nonsense."""

from __future__ import annotations

import makers
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.errors import InputError
from probes.network import MAX_SCORE, Probe
from probes.spec import ProbeSpec
from probes.torch_network import TorchProbe

LINEAR = ProbeSpec(kind="linear", layers=(1, 2), hidden_size=300)
MLP = ProbeSpec(kind="mlp", layers=(1, 2), hidden_size=300, hidden_dims=(256, 64))


def hidden(n: int, spec: ProbeSpec, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    # Hidden states have channels thousands of times larger than the others.
    scale = np.where(rng.random(spec.input_dim) < 0.01, 1000.0, 1.0)
    return (rng.normal(size=(n, spec.input_dim)) * scale).astype(np.float32)


def test_linear_is_an_affine_map() -> None:
    spec = ProbeSpec(kind="linear", layers=(1,), hidden_size=2)
    probe = Probe(spec, [(np.array([[2, -1]], "f4"), np.array([0.5], "f4"))])
    assert probe.score([[1.0, 3.0], [0.0, 0.0]]).tolist() == [-0.5, 0.5]


def test_mlp_has_relu_between() -> None:
    spec = ProbeSpec(kind="mlp", layers=(1,), hidden_size=1, hidden_dims=(2,))
    layers = [
        (np.array([[1], [-1]], "f4"), np.zeros(2, "f4")),
        (np.array([[1, 10]], "f4"), np.ones(1, "f4")),
    ]
    assert Probe(spec, layers).score([[2.0], [-3.0]]).tolist() == [3.0, 31.0]


@pytest.mark.parametrize("spec", [LINEAR, MLP], ids=["linear", "mlp"])
def test_numpy_and_torch_agree_to_the_bit(spec: ProbeSpec) -> None:
    probe = makers.probe(spec)
    states = hidden(4000, spec)
    ours, theirs = probe.score(states), TorchProbe(probe)(torch.from_numpy(states)).numpy()
    assert ours.dtype == theirs.dtype == np.float32
    # float64 inside: a difference of one float32 step may appear once in 2**29 scores or so.
    assert (ours == theirs).all()


@pytest.mark.parametrize("spec", [LINEAR, MLP], ids=["linear", "mlp"])
def test_a_score_does_not_depend_on_the_batch(spec: ProbeSpec) -> None:
    probe, states = makers.probe(spec), hidden(257, spec)
    module, whole = TorchProbe(probe), probe.score(states)
    for size in (1, 2, 3, 16, 100):
        for start in range(0, 257, size):
            part = states[start : start + size]
            assert (probe.score(part) == whole[start : start + size]).all()
            assert (module(torch.from_numpy(part)).numpy() == whole[start : start + size]).all()


@pytest.mark.parametrize("spec", [LINEAR, MLP], ids=["linear", "mlp"])
def test_torch_in_float32_is_close(spec: ProbeSpec) -> None:
    probe, states = makers.probe(spec), hidden(500, spec)
    ours = probe.score(states)
    theirs = TorchProbe(probe, dtype=torch.float32)(torch.from_numpy(states)).numpy()
    scale = np.abs(states) @ np.abs(probe.layers[0][0].T)
    assert np.abs(ours - theirs).max() <= 1e-6 * scale.max() * 30


def test_torch_takes_the_engine_dtype() -> None:
    probe, states = makers.probe(LINEAR), torch.from_numpy(hidden(5, LINEAR)).to(torch.bfloat16)
    expected = probe.score(states.to(torch.float32).numpy())
    assert (TorchProbe(probe)(states).numpy() == expected).all()


@pytest.mark.parametrize("spec", [LINEAR, MLP], ids=["linear", "mlp"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_state_that_is_not_finite_scores_nan_and_spoils_no_neighbour(
    spec: ProbeSpec, bad: float
) -> None:
    probe, states = makers.probe(spec), hidden(4, spec)
    clean = probe.score(states)
    states[1, 7] = bad
    for score in (probe.score(states), TorchProbe(probe)(torch.from_numpy(states)).numpy()):
        assert np.isnan(score).tolist() == [False, True, False, False]
        assert (score[[0, 2, 3]] == clean[[0, 2, 3]]).all()


@pytest.mark.parametrize("spec", [LINEAR, MLP], ids=["linear", "mlp"])
@pytest.mark.parametrize("odd", [0.0, np.nan, np.inf, -np.inf, 1e35])
def test_one_state_alone_has_the_score_it_has_among_others(spec: ProbeSpec, odd: float) -> None:
    probe, states = makers.probe(spec), hidden(40, spec)
    states[::3, 7] = odd
    found = [probe.score_one(row) for row in states.astype(np.float64)]
    assert np.array_equal(np.float32(found), probe.score(states), equal_nan=True)


def test_zero_weights_do_not_hide_infinity() -> None:
    spec = ProbeSpec(kind="linear", layers=(1,), hidden_size=2)
    probe = Probe(spec, [(np.zeros((1, 2), "f4"), np.ones(1, "f4"))])
    assert np.isnan(probe.score([[np.inf, 0.0]])).all()
    assert TorchProbe(probe)(torch.tensor([[torch.inf, 0.0]])).isnan().all()


def test_a_huge_logit_counts_as_not_finite() -> None:
    spec = ProbeSpec(kind="linear", layers=(1,), hidden_size=1)
    probe = Probe(spec, [(np.full((1, 1), 1e20, "f4"), np.zeros(1, "f4"))])
    states = np.array([[1e9], [1e11], [3e38]], "f4")
    for score in (probe.score(states), TorchProbe(probe)(torch.from_numpy(states)).numpy()):
        assert np.isnan(score).tolist() == [False, True, True]
        assert np.nanmax(score) <= MAX_SCORE


@settings(max_examples=50, deadline=None)
@given(
    states=st.lists(
        st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=4, max_size=4),
        min_size=1, max_size=5,
    )
)  # fmt: skip
def test_any_state_has_the_same_score_in_numpy_and_torch(states: list[list[float]]) -> None:
    spec = ProbeSpec(kind="mlp", layers=(1, 2), hidden_size=2, hidden_dims=(3,))
    probe = makers.probe(spec)
    array = np.array(states, dtype=np.float32)
    ours, theirs = probe.score(array), TorchProbe(probe)(torch.from_numpy(array)).numpy()
    np.testing.assert_array_equal(ours, theirs)


def test_no_rows() -> None:
    assert makers.probe(LINEAR).score(np.empty((0, 600), "f4")).shape == (0,)
    assert TorchProbe(makers.probe(LINEAR))(torch.empty(0, 600)).shape == (0,)


@pytest.mark.parametrize("shape", [(3,), (2, 599), (1, 2, 600)])
def test_refuses_another_width(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"2 layers of 300"):
        makers.probe(LINEAR).score(np.zeros(shape, "f4"))


@pytest.mark.parametrize("spec", [LINEAR, MLP], ids=["linear", "mlp"])
def test_tensors_round_trip(spec: ProbeSpec) -> None:
    probe = makers.probe(spec)
    again = Probe.from_tensors(spec, probe.to_tensors())
    states = hidden(20, spec)
    assert (again.score(states) == probe.score(states)).all()


def test_weights_are_copied_and_cannot_be_changed() -> None:
    weight = np.ones((1, 600), "f4")
    probe = Probe(LINEAR, [(weight, np.zeros(1, "f4"))])
    weight[:] = 7
    assert probe.score(np.ones((1, 600), "f4")).tolist() == [600.0]
    with pytest.raises(ValueError, match="read-only"):
        probe.layers[0][0][:] = 7


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"layer.0.bias": None}, "asks for"),
        ({"layer.1.weight": np.zeros((1, 1), "f4")}, "asks for"),
        ({"layer.0.weight": np.zeros((1, 600), "f8")}, "float64"),
        ({"layer.0.weight": np.zeros((600, 1), "f4")}, "shapes"),
        ({"layer.0.weight": np.full((1, 600), np.nan, "f4")}, "NaN"),
        ({"layer.0.bias": np.full(1, np.inf, "f4")}, "NaN or infinity"),
    ],
)
def test_refuses_other_tensors(change: dict[str, np.ndarray | None], says: str) -> None:
    tensors = makers.probe(LINEAR).to_tensors() | change
    present = {name: value for name, value in tensors.items() if value is not None}
    with pytest.raises(InputError, match=says):
        Probe.from_tensors(LINEAR, present)
