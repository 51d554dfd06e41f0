"""Saving and loading an artifact: whole or not at all, and nothing of anybody else's is lost."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import makers
import numpy as np
import pytest
from pydantic import ValidationError

from calibration.splits import group_hashes
from stopper import folders
from stopper.artifact import TENSORS, Artifact, Manifest, check_target, read_manifest
from stopper.errors import ArtifactError

EMPTY, SEVEN = np.empty(0, np.uint64), np.array([7], np.uint64)


def saved(folder: Path) -> Artifact:
    makers.artifact().save(folder)
    return Artifact.load(folder)


def test_round_trip(tmp_path: Path) -> None:
    made = makers.artifact()
    manifest = made.save(tmp_path / "a")
    loaded = Artifact.load(tmp_path / "a")
    assert loaded.manifest == manifest
    assert loaded.manifest.model_copy(update={"files": {}}) == made.manifest
    assert set(manifest.files) == set(TENSORS)
    hidden = np.random.default_rng(0).normal(size=(9, 18)).astype("f4")
    assert loaded.probe is not None
    assert made.probe is not None
    assert (loaded.probe.score(hidden) == made.probe.score(hidden)).all()
    assert loaded.cues is not None
    assert loaded.cues.events([1], [5, 3, 6, 4, 2]) == [(1, "wait"), (3, "hmm")]
    np.testing.assert_array_equal(loaded.worst_scores, made.worst_scores)
    assert {name: list(x) for name, x in loaded.splits.items()} == {
        "train": sorted(group_hashes(["p1", "p2"])),
        "calibrate": list(group_hashes(["p3"])),
    }


def test_only_json_and_safetensors_are_written(tmp_path: Path) -> None:
    saved(tmp_path / "a")
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"manifest.json", *TENSORS}
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_an_artifact_of_scores_has_no_probe(tmp_path: Path) -> None:
    made = makers.artifact(model=None, probe=None, cues=None, closing=None)
    made.save(tmp_path / "a")
    loaded = Artifact.load(tmp_path / "a")
    assert loaded.probe is None
    assert loaded.cues is None
    assert "names no model" in loaded.mismatches(makers.fingerprint())[0]


def test_an_artifact_before_calibration(tmp_path: Path) -> None:
    makers.artifact(calibrated=False).save(tmp_path / "a")
    loaded = Artifact.load(tmp_path / "a")
    assert loaded.worst_scores is None
    assert loaded.manifest.calibration is None


def test_further_tensors_of_a_method(tmp_path: Path) -> None:
    made = makers.artifact()
    record = makers.calibration(makers.worst_scores(), method="lynx", confidence=None, threshold=1)
    good = np.array([0.5, 2.0], "f4")
    Artifact(
        made.manifest.model_copy(update={"calibration": record}),
        probe=made.probe,
        cues=made.cues,
        calibration_tensors={"good_scores": good, "bad_scores": -good},
    ).save(tmp_path / "a")
    loaded = Artifact.load(tmp_path / "a")
    assert loaded.worst_scores is None
    assert set(loaded.calibration_tensors) == {"good_scores", "bad_scores"}
    np.testing.assert_array_equal(loaded.calibration_tensors["good_scores"], good)


def test_views_are_stored_as_they_look(tmp_path: Path) -> None:
    made = makers.artifact()
    assert made.worst_scores is not None
    backwards = np.ascontiguousarray(made.worst_scores[::-1])[::-1]
    Artifact(made.manifest, made.probe, made.cues, backwards).save(tmp_path / "a")
    np.testing.assert_array_equal(Artifact.load(tmp_path / "a").worst_scores, made.worst_scores)


def test_empty_splits_survive(tmp_path: Path) -> None:
    made = makers.artifact()
    nobody = {"select": np.empty(0, np.uint64)}
    Artifact(made.manifest, made.probe, made.cues, made.worst_scores, nobody).save(tmp_path / "a")
    assert Artifact.load(tmp_path / "a").splits["select"].size == 0


def test_mismatches_are_those_of_the_model(tmp_path: Path) -> None:
    loaded = saved(tmp_path / "a")
    assert loaded.mismatches(makers.fingerprint()) == []
    assert loaded.mismatches(makers.fingerprint(dtype="float16")) == [
        "dtype is 'float16', expected 'float32'"
    ]


def test_a_minus_infinite_threshold_is_standard_json(tmp_path: Path) -> None:
    made = makers.artifact()
    worst = np.full(60, -np.inf, np.float32)
    record = makers.calibration(worst)
    assert record.threshold == -np.inf
    manifest = made.manifest.model_copy(update={"calibration": record})
    Artifact(manifest, made.probe, made.cues, worst).save(tmp_path / "a")
    text = (tmp_path / "a/manifest.json").read_text()
    assert json.loads(text)["calibration"]["threshold"] == "-Infinity"
    loaded = Artifact.load(tmp_path / "a").manifest.calibration
    assert loaded is not None
    assert loaded.threshold == -np.inf


# Expiry


def test_an_expired_artifact_is_refused_but_its_card_can_be_read(tmp_path: Path) -> None:
    expires = makers.CREATED + timedelta(days=30)
    makers.artifact(expires=expires).save(tmp_path / "a")
    Artifact.load(tmp_path / "a", now=expires - timedelta(seconds=1))
    with pytest.raises(ArtifactError, match=r"manifest\.json: expired on 2025-02-01.*calibrate"):
        Artifact.load(tmp_path / "a", now=expires)
    with pytest.raises(ArtifactError, match="expired"):
        Artifact.load(tmp_path / "a")
    assert read_manifest(tmp_path / "a").expires == expires


def test_expiry_must_follow_creation() -> None:
    with pytest.raises(ValidationError, match="later than created"):
        makers.artifact(expires=makers.CREATED)


# Replacing


def test_save_replaces_an_artifact_and_keeps_what_is_not_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    saved(folder)
    (folder / "report.html").write_text("mine")
    (folder / "plots").mkdir()
    (folder / "plots/x.png").write_bytes(b"png")
    makers.artifact(calibrated=False).save(folder)
    assert Artifact.load(folder).manifest.calibration is None
    assert not (folder / "calibration.safetensors").exists()
    assert (folder / "report.html").read_text() == "mine"
    assert (folder / "plots/x.png").read_bytes() == b"png"
    assert list(tmp_path.iterdir()) == [folder]


def test_save_fills_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    saved(tmp_path / "a")


def test_save_makes_parents(tmp_path: Path) -> None:
    saved(tmp_path / "x/y/a")


@pytest.mark.parametrize("manifest", [None, "{}", "not json", '{"schema_version": 1}'])
def test_save_refuses_a_folder_that_is_something_else(tmp_path: Path, manifest: str | None) -> None:
    (tmp_path / "precious.txt").write_text("precious")
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ArtifactError, match=r"not an artifact .* nothing was overwritten"):
        makers.artifact().save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "precious.txt").read_text() == "precious"


def test_save_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("precious")
    with pytest.raises(ArtifactError, match="not an artifact"):
        check_target(tmp_path / "a")


def test_a_link_to_the_artifact_stays_a_link(tmp_path: Path) -> None:
    saved(tmp_path / "v1")
    (tmp_path / "current").symlink_to("v1")
    makers.artifact(calibrated=False).save(tmp_path / "current")
    assert (tmp_path / "current").is_symlink()
    assert Artifact.load(tmp_path / "current").manifest.calibration is None
    assert Artifact.load(tmp_path / "v1").manifest.calibration is None


def test_a_failure_in_mid_save_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "a")
    written = []

    def full_disk(path: Path, data: bytes) -> None:
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(path)
        path.write_bytes(data)

    monkeypatch.setattr(folders, "_write", full_disk)
    with pytest.raises(OSError, match="No space left"):
        makers.artifact(calibrated=False).save(tmp_path / "a")
    assert Artifact.load(tmp_path / "a").manifest.calibration is not None
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_the_folder_is_readable_as_the_umask_says(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        saved(tmp_path / "a")
    finally:
        os.umask(mask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "a/manifest.json").stat().st_mode & 0o777 == 0o640


def test_save_refuses_to_write_more_than_load_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stopper.artifact.MAX_TENSOR_BYTES", 100)
    with pytest.raises(ArtifactError, match=r"probe\.safetensors: \d+ bytes, the limit is 100"):
        makers.artifact().save(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


# Parts that do not belong together


def test_refuses_parts_of_another_spec() -> None:
    made = makers.artifact()
    with pytest.raises(ArtifactError, match="the manifest's probe"):
        Artifact(made.manifest, makers.probe(makers.spec(shaping="raw")), made.cues)
    with pytest.raises(ArtifactError, match="the manifest's cues"):
        Artifact(made.manifest, made.probe, None)


@pytest.mark.parametrize(
    ("worst", "says"),
    [
        (makers.worst_scores()[:-1], "59 units, the manifest 60"),
        (makers.worst_scores()[::-1], "ascending"),
        (makers.worst_scores().astype("f8"), "float64"),
        (np.where(np.arange(60) < 59, makers.worst_scores(), np.nan).astype("f4"), "NaN"),
        (np.where(np.arange(60) < 59, makers.worst_scores(), np.inf).astype("f4"), "infinity"),
        (makers.worst_scores() + np.float32(1), "gives the threshold"),
        (None, "without worst_scores"),
    ],
)
def test_refuses_scores_which_are_not_those_calibrated(worst: np.ndarray | None, says: str) -> None:
    made = makers.artifact()
    with pytest.raises(ArtifactError, match=says):
        Artifact(made.manifest, made.probe, made.cues, worst)


def test_refuses_scores_without_a_record() -> None:
    made = makers.artifact(calibrated=False)
    with pytest.raises(ArtifactError, match="without a calibration record"):
        Artifact(made.manifest, made.probe, made.cues, makers.worst_scores())


def test_refuses_nan_in_further_tensors() -> None:
    made = makers.artifact()
    with pytest.raises(ArtifactError, match="good_scores holds NaN"):
        Artifact(
            made.manifest, made.probe, made.cues, made.worst_scores,
            calibration_tensors={"good_scores": np.array([np.nan])},
        )  # fmt: skip


@pytest.mark.parametrize(
    ("splits", "says"),
    [
        ({"train": np.array([1, 2], np.uint64), "select": np.array([2], np.uint64)}, "1 groups"),
        (
            dict.fromkeys(["train", "select"], EMPTY)
            | {"train.prompts": SEVEN, "select.prompts": SEVEN},
            "1 prompts are in both splits train and select",
        ),
        ({"train.prompts": SEVEN}, "split that is missing"),
        ({"train": np.array([1], np.int64)}, "int64"),
        ({"train": np.zeros((1, 1), np.uint64)}, r"\[1, 1\]"),
    ],
)
def test_refuses_splits_that_share_a_prompt(splits: dict[str, np.ndarray], says: str) -> None:
    made = makers.artifact()
    with pytest.raises(ArtifactError, match=says):
        Artifact(made.manifest, made.probe, made.cues, made.worst_scores, splits)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": makers.fingerprint(hidden_size=7)}, "probe.hidden_size"),
        ({"model": makers.fingerprint(num_layers=3)}, "beyond the model's 3 layers"),
        ({"created": "yesterday"}, "created"),
        ({"sampling": {"temperature": object()}}, "sampling"),
        ({"files": {"probe.safetensors": "abc"}}, "files"),
    ],
)
def test_a_manifest_refuses_contradictions(changes: dict[str, object], says: str) -> None:
    fields = {"created": makers.CREATED, "stopper_version": "0", "probe": makers.spec()}
    with pytest.raises(ValidationError, match=says):
        Manifest.model_validate(fields | changes)
