"""Fitting: exact export, no prompt on both sides of a split, honest metrics, clear refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probes.errors import InputError
from probes.estimators import balanced, epochs, export, linear, prior_logit
from probes.fit import fit_probe
from probes.metrics import sigmoid
from probes.spec import ProbeSpec
from probes.torch_network import TorchProbe

LINEAR = ProbeSpec(kind="linear", layers=(1, 2), hidden_size=12)
MLP = ProbeSpec(kind="mlp", layers=(1, 2), hidden_size=12, hidden_dims=(16, 8))
SPECS = pytest.mark.parametrize("spec", [LINEAR, MLP], ids=["linear", "mlp"])


def cues(n: int = 1500, prompts: int = 200, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Rows of unlike scale and large common mean, as hidden states have."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, prompts, n)
    clean = rng.normal(size=(n, 24))
    logit = clean[:, :4].sum(axis=1) + rng.normal(size=prompts)[group] + 1.0
    labels = rng.random(n) < sigmoid(logit)
    hidden = clean * rng.lognormal(0, 2, 24) + 100 * rng.normal(size=24)
    return hidden.astype(np.float32), labels, group


def logits(pipeline: object, hidden: np.ndarray) -> np.ndarray:
    """Scikit-learn's own score."""
    wide = hidden.astype(np.float64)
    if hasattr(pipeline, "decision_function"):
        return np.asarray(pipeline.decision_function(wide))
    probability = pipeline.predict_proba(wide)[:, 1]  # type: ignore[attr-defined]
    return np.log(probability) - np.log1p(-probability)


def fitted(spec: ProbeSpec, hidden: np.ndarray, labels: np.ndarray) -> object:
    if spec.kind == "linear":
        return linear(hidden, labels, 0.1, 0)[0]
    return list(epochs(hidden, labels, spec, 5, 0))[-1]


@SPECS
def test_numpy_torch_and_scikit_learn_give_the_same_score(spec: ProbeSpec) -> None:
    hidden, labels, _ = cues()
    pipeline = fitted(spec, hidden, labels)
    probe = export(pipeline, spec)
    reference, ours = logits(pipeline, hidden), probe.score(hidden)
    engine = TorchProbe(probe)(torch.from_numpy(hidden)).numpy()
    # Means up to 10,000 times the spread cancel here, and with them that many of the spare digits
    # of float64: a few scores may round to the neighbouring float32.
    np.testing.assert_array_max_ulp(ours, engine, maxulp=1)
    assert (ours != engine).mean() < 0.005
    if spec.kind == "linear":
        weight, bias = probe.layers[0]
        spread = np.abs(hidden - hidden.mean(axis=0)) @ np.abs(weight[0])
        assert (np.abs(ours - reference) <= 2.0**-23 * (abs(bias[0]) + spread)).all()
    np.testing.assert_allclose(ours, reference, rtol=1e-5, atol=1e-4)


@SPECS
def test_the_offset_is_added_to_every_logit(spec: ProbeSpec) -> None:
    hidden, labels, _ = cues(300)
    pipeline = fitted(spec, hidden, labels)
    plain, moved = export(pipeline, spec).score(hidden), export(pipeline, spec, 2.5).score(hidden)
    np.testing.assert_allclose(moved, plain + 2.5, rtol=0, atol=1e-5)


@SPECS
def test_it_learns_and_its_probabilities_are_honest(spec: ProbeSpec) -> None:
    hidden, labels, group = cues(6000, 600)
    result = fit_probe(hidden, labels, group, spec)
    assert result.metrics["auroc"] is not None
    assert result.metrics["auroc"] > 0.8
    assert result.metrics["ece"] is not None
    assert result.metrics["ece"] < 0.1
    assert result.probe.spec == spec
    # Base rate restored: the mean probability is the share of positives.
    mean = sigmoid(result.probe.score(hidden).astype(np.float64)).mean()
    assert mean == pytest.approx(labels.mean(), abs=0.05)
    assert result.chosen["groups"] == 600
    assert result.chosen["held_out_groups"] == 120
    assert result.chosen["converged"] is True


@SPECS
def test_the_same_seed_gives_the_same_weights(spec: ProbeSpec) -> None:
    hidden, labels, group = cues(400, 50)
    first, second = (fit_probe(hidden, labels, group, spec, seed=3) for _ in range(2))
    assert first.metrics == second.metrics
    assert (first.probe.score(hidden) == second.probe.score(hidden)).all()


def test_group_names_may_be_strings() -> None:
    hidden, labels, group = cues(400, 50)
    named = np.array([f"prompt {value}" for value in group])
    assert fit_probe(hidden, labels, named, LINEAR).chosen["groups"] == len(np.unique(group))


def test_metrics_do_not_leak_through_rollouts_of_one_prompt() -> None:
    # Labels are pure noise per prompt, hidden states identify the prompt: split by cue, an MLP
    # would look brilliant; split by prompt, nothing can be learned.
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(150), 8)
    hidden = rng.normal(size=(150, 24)).astype(np.float32)[group]
    labels = (rng.random(150) < 0.5)[group]
    auroc = fit_probe(hidden, labels, group, MLP).metrics["auroc"]
    assert auroc is not None
    assert auroc < 0.7


def test_a_constant_channel_does_no_harm() -> None:
    hidden, labels, group = cues(400, 50)
    hidden[:, 5] = 3.0
    assert np.isfinite(fit_probe(hidden, labels, group, LINEAR).probe.score(hidden)).all()


def test_balanced_weights_give_both_classes_the_same_sum() -> None:
    truth = np.array([True, False, False, False])
    weight = balanced(truth)
    assert weight[truth].sum() == pytest.approx(weight[~truth].sum())
    assert weight.mean() == pytest.approx(1.0)
    assert prior_logit(truth) == pytest.approx(np.log(1 / 3))


def test_refuses_one_class() -> None:
    hidden, labels, group = cues(100, 20)
    with pytest.raises(InputError, match="one class only"):
        fit_probe(hidden, np.ones_like(labels), group, LINEAR)


def test_refuses_no_rows() -> None:
    with pytest.raises(InputError, match="no labelled cue"):
        fit_probe(np.empty((0, 24), "f4"), [], np.empty(0, int), LINEAR)


def test_refuses_too_few_prompts() -> None:
    hidden, labels, _ = cues(100, 20)
    with pytest.raises(InputError, match="1 prompts are too few"):
        fit_probe(hidden, labels, np.zeros(100), LINEAR)


def test_refuses_another_width() -> None:
    hidden, labels, group = cues(100, 20)
    with pytest.raises(InputError, match=r"expected \[n, 24\]"):
        fit_probe(hidden[:, :23], labels, group, LINEAR)


def test_refuses_nan() -> None:
    hidden, labels, group = cues(100, 20)
    hidden[17, 3] = np.nan
    with pytest.raises(InputError, match="hidden state 17"):
        fit_probe(hidden, labels, group, LINEAR)
