"""Splits, methods and the artifact of a calibrated halting rule."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import makers
import numpy as np
import pytest

from calibration.denoising import DenoisingTable, replay, worst_scores
from calibration.denoising_simulation import DenoisingSettings, simulate_denoising
from calibration.risk import threshold
from stopper.artifact import Artifact
from stopper.comparison import compare
from stopper.denoising_calibration import (
    HaltingCalibration,
    Terms,
    calibrate_halting,
    share_out,
    to_artifact,
)
from stopper.denoising_settings import require_setting
from stopper.errors import ArtifactError, InputError, TooFewTraces
from stopper.halting import HaltingRule
from stopper.halting_policy import HaltingPolicy
from stopper.halting_shapes import scores_of
from stopper.manifest import HaltingSpec, Manifest
from stopper.schedule import Schedule

SHAPES = [
    HaltingRule(Schedule("linear", 6.0, 0.0), "quantile", "masked", gate) for gate in (False, True)
]


def table(n: int, seed: int) -> DenoisingTable:
    made = simulate_denoising(DenoisingSettings(n, steps=10, seed=seed))
    model = makers.fingerprint().model_dump(mode="json")
    return replace(made, settings={**made.settings, "model": model, "comparer": "auto"})


SELECT, CALIBRATE = table(80, 1), table(150, 2)


def found(method: str = "ltt", alpha: float = 0.1) -> HaltingCalibration:
    return calibrate_halting(SELECT, CALIBRATE, Terms(alpha, method), SHAPES)  # type: ignore[arg-type]


def artifact(method: str = "ltt") -> Artifact:
    return to_artifact(found(method), SELECT, CALIBRATE)


@pytest.mark.parametrize("method", ["ltt", "crc"])
def test_the_level_is_the_exact_threshold_of_the_calibrate_split(method: str) -> None:
    made = found(method)
    worst = worst_scores(scores_of(made.rule, CALIBRATE), CALIBRATE)
    assert made.level == threshold(worst, 0.1, method)
    told = replay(scores_of(made.rule, CALIBRATE), made.level, CALIBRATE)
    assert (~told.agree).mean() <= 0.1
    assert "with confidence 0.9" in made.promise or method == "crc"
    assert "other than the one the full decode would have given" in made.promise


def test_the_shape_does_not_depend_on_the_calibrate_split() -> None:
    other = calibrate_halting(SELECT, table(150, 3), Terms(0.1), SHAPES)
    assert other.rule == found().rule


@pytest.mark.parametrize("method", ["ltt", "crc", "mapie"])
def test_the_artifact_comes_back_from_disk_as_it_was(method: str, tmp_path: Path) -> None:
    made = artifact(method)
    made.save(tmp_path / "a")
    loaded = Artifact.load(tmp_path / "a")
    assert loaded.manifest.halting == made.manifest.halting
    assert loaded.manifest.probe is None
    policy = HaltingPolicy.from_artifact(loaded)
    calibrated = found(method)
    assert policy.rule == calibrated.rule
    assert float(policy.level()) == calibrated.level
    assert set(loaded.splits) == {"select", "calibrate"}
    if method == "mapie":
        assert loaded.worst_scores is None
        with pytest.raises(InputError, match="alone"):
            policy.level(0.2)
        assert not policy.carries(0.2)
    else:
        assert loaded.worst_scores is not None
        want = threshold(loaded.worst_scores, 0.2, method)
        assert float(policy.level(0.2)) == want
        assert policy.carries(0.2)
        assert not policy.carries(0.001)
        with pytest.raises(TooFewTraces, match="more"):
            policy.require(0.001)


def test_a_request_below_what_the_prompts_carry_is_never_halted() -> None:
    assert float(HaltingPolicy.from_artifact(artifact()).level(0.001)) == math.inf


def test_splits_that_share_a_group_are_refused() -> None:
    leaky = DenoisingTable.concat([CALIBRATE, SELECT.select([3])])
    with pytest.raises(InputError, match="already used in the artifact's 'select' split"):
        calibrate_halting(SELECT, leaky, Terms(0.1), SHAPES)


def test_splits_of_different_settings_are_refused() -> None:
    other = replace(CALIBRATE, settings={**CALIBRATE.settings, "comparer": "exact"})
    with pytest.raises(InputError, match="differ in comparer"):
        calibrate_halting(SELECT, other, Terms(0.1), SHAPES)


@pytest.mark.parametrize(("method", "alpha", "missing"), [("ltt", 0.01, 80), ("crc", 0.005, 49)])
def test_too_few_prompts_are_refused_with_the_number_missing(
    method: str, alpha: float, missing: int
) -> None:
    with pytest.raises(TooFewTraces, match=f"so {missing} more"):
        found(method, alpha)


def test_mapie_says_how_many_prompts_its_correction_needs() -> None:
    few = CALIBRATE.select(range(40))
    terms = Terms(0.1, "mapie", 0.9, "bonferroni_holm")
    with pytest.raises(TooFewTraces, match="bonferroni_holm over 12 candidates"):
        calibrate_halting(SELECT, few, terms, SHAPES)


def test_an_empty_split_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="'select' has no decode"):
        calibrate_halting(SELECT.select([]), CALIBRATE, Terms(0.1), SHAPES)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"alpha": 0.0}, "alpha is 0"), ({"method": "lynx"}, "ltt, crc, mapie"),
     ({"correction": "none"}, "bonferroni_holm")],
    ids=["alpha", "method", "correction"],
)  # fmt: skip
def test_terms_out_of_range_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Terms(**({"alpha": 0.1} | changes))  # type: ignore[arg-type]


def test_one_store_is_shared_out_by_group() -> None:
    twice = replace(CALIBRATE, groups=tuple(f"g{i // 3}" for i in range(150)))
    select, rest = share_out(twice, 0.4)
    assert len(select) + len(rest) == 150
    assert not set(select.groups) & set(rest.groups)
    again, _ = share_out(twice, 0.4)
    assert again.trace_ids == select.trace_ids
    with pytest.raises(InputError, match="strictly between"):
        share_out(twice, 1.0)
    with pytest.raises(InputError, match="is empty"):
        share_out(twice.select([0]), 0.5)


def test_rollouts_of_a_prompt_count_once() -> None:
    twice = replace(CALIBRATE, groups=tuple(f"g{i // 2}" for i in range(150)))
    made = calibrate_halting(SELECT, twice, Terms(0.1), SHAPES)
    assert (made.n_units, made.n_traces, made.rollouts) == (75, 150, 2)


def test_decodes_of_another_setting_are_refused_by_name() -> None:
    made = artifact()
    require_setting(made, CALIBRATE, "x")
    sampler = {**CALIBRATE.settings["sampler"], "order": "entropy"}
    with pytest.raises(InputError, match="order is 'entropy', expected 'simulated'"):
        require_setting(made, replace(CALIBRATE, settings={"sampler": sampler}), "x")
    model = {**CALIBRATE.settings["model"], "dtype": "float16"}
    with pytest.raises(InputError, match="dtype is 'float16'"):
        other = {**CALIBRATE.settings, "model": model}
        require_setting(made, replace(CALIBRATE, settings=other), "x")
    with pytest.raises(InputError, match="no halting rule"):
        require_setting(makers.artifact(), CALIBRATE, "x")


def test_decodes_that_do_not_say_how_they_were_sampled_are_refused() -> None:
    bare = replace(SELECT, settings={}), replace(CALIBRATE, settings={})
    made = calibrate_halting(*bare, Terms(0.1), SHAPES)
    with pytest.raises(InputError, match="do not say how they were sampled"):
        to_artifact(made, *bare)


def test_a_policy_is_not_made_of_a_reasoning_artifact() -> None:
    with pytest.raises(ArtifactError, match="no halting rule"):
        HaltingPolicy.from_artifact(makers.artifact())


def test_a_halting_rule_stands_beside_neither_probe_nor_cues() -> None:
    spec = artifact().manifest.halting
    with pytest.raises(ValueError, match="neither probe nor cues"):
        Manifest.model_validate(
            {**makers.artifact().manifest.model_dump(), "halting": spec and spec.model_dump()}
        )


def test_a_spec_that_is_no_rule_is_refused() -> None:
    spec = artifact().manifest.halting
    assert spec is not None
    fields = spec.model_dump()
    for change, said in (
        ({"low": fields["high"] + 1}, "high at least low"),
        ({"aggregate": "max"}, "aggregate"),
        ({"kind": "step"}, "kind"),
    ):
        with pytest.raises(ValueError, match=said):
            HaltingSpec.model_validate({**fields, **change})


def test_scores_that_do_not_give_the_level_are_refused() -> None:
    made = artifact()
    assert made.worst_scores is not None
    with pytest.raises(ArtifactError, match="gives the threshold"):
        Artifact(made.manifest, worst_scores=made.worst_scores + np.float32(1))
    mapie = artifact("mapie")
    with pytest.raises(ArtifactError, match="one alpha alone"):
        Artifact(mapie.manifest, worst_scores=made.worst_scores)


def test_a_diff_says_whether_one_may_replace_the_other() -> None:
    ours, now = artifact(), makers.CREATED
    assert not compare(ours, ours, now).differences
    crc = compare(ours, artifact("crc"), now)
    assert crc.obstacles == ()
    assert any("crc, not ltt" in one for one in crc.cautions)
    mapie = compare(ours, artifact("mapie"), now)
    assert mapie.obstacles == ()
    assert any("answers alpha 0.1 alone" in one for one in mapie.cautions)
    assert ours.manifest.halting is not None
    spec = ours.manifest.halting
    sampler = spec.sampler.model_copy(update={"steps": 5})
    other = ours.manifest.model_copy(
        update={"halting": spec.model_copy(update={"sampler": sampler, "progress": "canvas"})}
    )
    told = compare(ours, Artifact(other, worst_scores=ours.worst_scores), now).obstacles
    assert any("steps is 5, expected 10" in one for one in told)
    assert any("over the canvas" in one for one in told)
    assert any(
        "stops a reasoning model" in o for o in compare(ours, makers.artifact(), now).obstacles
    )
