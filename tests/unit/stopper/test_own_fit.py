"""A probe fitted in one's own way goes through the same splits, measures and artifact."""

from __future__ import annotations

from pathlib import Path

import makers
import numpy as np
import pytest

from calibration.traces import TraceDataset
from probes.network import Probe
from probes.spec import ProbeSpec
from stopper.artifact import Artifact
from stopper.errors import InputError
from stopper.fitting import Method
from stopper.training import TrainingPlan, train

PLAN = TrainingPlan("agrees", {"train": 0.6, "test": 0.4}, seed=1, max_cues=10_000)
SPEC = ProbeSpec(kind="linear", layers=(1, 4), hidden_size=makers.HIDDEN)


def between_means(hidden: np.ndarray, good: np.ndarray, spec: ProbeSpec) -> Probe:
    weight = (hidden[good].mean(0) - hidden[~good].mean(0))[None].astype(np.float32)
    middle = hidden.mean(0) @ weight[0]
    return Probe(spec, [(weight, np.array([-middle], np.float32))])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> TraceDataset:
    folder = makers.store(tmp_path_factory.mktemp("own") / "store", makers.records(80))
    return TraceDataset(folder)


def test_the_artifact_holds_the_probe_and_says_whose_fit_it_is(
    dataset: TraceDataset, tmp_path: Path
) -> None:
    artifact, result, data = train(dataset, Method(SPEC), PLAN, between_means)
    artifact.save(tmp_path / "made")
    loaded = Artifact.load(tmp_path / "made")
    assert loaded.manifest.training["fitter"] == "between_means"
    assert loaded.manifest.probe == SPEC
    assert data.hidden.shape[1] == SPEC.input_dim
    expected = between_means(data.hidden, data.labels > 0, SPEC)
    assert np.array_equal(loaded.probe.score(data.hidden), expected.score(data.hidden))
    assert loaded.manifest.training["held_out"] == result.metrics
    assert result.metrics["auroc"] > 0.6


def test_it_is_measured_on_prompts_that_its_twin_has_not_seen(dataset: TraceDataset) -> None:
    seen: list[int] = []

    def counting(hidden: np.ndarray, good: np.ndarray, spec: ProbeSpec) -> Probe:
        seen.append(len(hidden))
        return between_means(hidden, good, spec)

    _, result, data = train(dataset, Method(SPEC), PLAN, counting)
    assert seen == [len(data.hidden) - result.metrics["n"], len(data.hidden)]


def test_a_probe_of_another_shape_is_refused(dataset: TraceDataset) -> None:
    def stubborn(hidden: np.ndarray, good: np.ndarray, spec: ProbeSpec) -> Probe:
        shape = spec.model_copy(update={"shaping": "rise"})
        return Probe(shape, between_means(hidden, good, spec).layers)

    with pytest.raises(InputError, match="your fit made a probe of the shape"):
        train(dataset, Method(SPEC), PLAN, stubborn)


def test_without_a_fit_of_ones_own_nothing_is_said_of_one(dataset: TraceDataset) -> None:
    artifact, _, _ = train(dataset, Method(SPEC), PLAN)
    assert "fitter" not in artifact.manifest.training
