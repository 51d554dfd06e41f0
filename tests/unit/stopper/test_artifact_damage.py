"""Whatever happens to an artifact on its way, loading refuses it by name or it does no harm."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import makers
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save

from stopper import manifest as card
from stopper.artifact import MAX_MANIFEST_BYTES, MAX_TENSOR_BYTES, TENSORS, Artifact
from stopper.errors import ArtifactError

FILES = ("manifest.json", *TENSORS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    makers.artifact().save(tmp_path / "a")
    return tmp_path / "a"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("damage") / "a"
    makers.artifact().save(folder)
    yield folder


def refused(folder: Path, *says: str) -> str:
    with pytest.raises(ArtifactError) as caught:
        Artifact.load(folder)
    message = str(caught.value)
    assert "\n" not in message
    for part in says:
        assert part in message
    return message


def resign(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest as somebody would who knows how its digest is made."""
    path = folder / "manifest.json"
    fields = json.loads(path.read_text())
    change(fields)
    fields["digest"] = card.digest(fields)
    path.write_text(json.dumps(fields))


def retensor(folder: Path, name: str, tensors: dict[str, np.ndarray]) -> None:
    """Replace a tensor file, hash included."""
    data = save(tensors)
    (folder / name).write_bytes(data)
    sha = hashlib.sha256(data).hexdigest()
    resign(folder, lambda fields: fields["files"].update({name: sha}))


def same(left: Artifact, right: Artifact) -> bool:
    hidden = np.linspace(-3, 3, 36, dtype=np.float32).reshape(2, 18)
    assert left.probe is not None
    assert right.probe is not None
    assert left.worst_scores is not None
    assert right.worst_scores is not None
    return (
        left.manifest == right.manifest
        and (left.probe.score(hidden) == right.probe.score(hidden)).all()
        and (left.worst_scores == right.worst_scores).all()
    )


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from(FILES), place=st.integers(0), bit=st.integers(1, 255))
def test_any_changed_byte_is_refused_or_harmless(
    pristine: Path, name: str, place: int, bit: int
) -> None:
    path = pristine / name
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[place % len(whole)] ^= bit
    before = Artifact.load(pristine)
    path.write_bytes(damaged)
    try:
        after = Artifact.load(pristine)
    except ArtifactError as problem:
        assert str(pristine / name) in str(problem)
    else:
        # White space in the manifest may change; a tensor file may not.
        assert name == "manifest.json"
        assert same(before, after)
    finally:
        path.write_bytes(whole)


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from(FILES), share=st.floats(0, 0.999))
def test_any_truncation_is_refused(pristine: Path, name: str, share: float) -> None:
    path = pristine / name
    whole = path.read_bytes()
    cut = whole[: int(share * len(whole))]
    path.write_bytes(cut)
    try:
        if cut + b"\n" != whole:
            refused(pristine, str(path))
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    refused(folder, str(folder), name, "stopper train")


def test_no_folder(tmp_path: Path) -> None:
    refused(tmp_path / "none", str(tmp_path / "none"), "no artifact here", "stopper train")


@pytest.mark.parametrize(
    ("name", "limit"),
    [("manifest.json", MAX_MANIFEST_BYTES), ("probe.safetensors", MAX_TENSOR_BYTES)],
)
def test_an_oversized_file_is_refused_unread(folder: Path, name: str, limit: int) -> None:
    os.truncate(folder / name, limit + 1)  # sparse: takes no room
    refused(folder, str(folder / name), f"more than the limit of {limit}")


@pytest.mark.parametrize("name", TENSORS)
def test_a_file_of_another_artifact(folder: Path, tmp_path: Path, name: str) -> None:
    other = makers.artifact(probe=makers.spec(rise_weight=0.25))
    retensor(folder, "splits.safetensors", {"train": np.array([77], np.uint64)})
    other.save(tmp_path / "b")
    if name == "cues.safetensors":
        (tmp_path / "b" / name).write_bytes(save({"start": np.zeros(1, np.int32)}))
    if name in ("probe.safetensors", "calibration.safetensors"):
        (tmp_path / "b" / name).write_bytes(save({"x": np.zeros(3, np.float32)}))
    shutil.copy(tmp_path / "b" / name, folder / name)
    refused(folder, str(folder / name), "another artifact")


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"3", b'"x"', b"\xff\xfe", b"{}"])
def test_a_manifest_that_is_none(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    refused(folder, str(folder / "manifest.json"), "manifest")


def test_a_manifest_nested_too_deeply(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b'{"a":' * 50_000 + b"1" + b"}" * 50_000)
    refused(folder, "nested too deeply")


def test_a_newer_schema_says_upgrade_whatever_else_it_holds(folder: Path) -> None:
    text = '{"schema_version": 3, "stopper_version": "3.1.4", "novelty": [1]}'
    (folder / "manifest.json").write_text(text)
    refused(folder, "made by a newer stopper (3.1.4)", "pip install --upgrade stopper")


def test_an_older_schema_says_which_command(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"schema_version": 0}')
    refused(folder, "schema 0 is no longer read", "stopper calibrate")


@pytest.mark.parametrize("version", ["1", 1.0, True, None])
def test_a_schema_version_that_is_no_number(folder: Path, version: object) -> None:
    resign(folder, lambda fields: fields.update(schema_version=version))
    refused(folder, "no schema_version")


def test_an_edited_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"alpha": 0.1', '"alpha": 0.01'))
    refused(folder, str(path), "altered since it was written")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda fields: fields.update(novelty=1), "novelty"),
        (lambda fields: fields.pop("created"), "created"),
        (lambda fields: fields["calibration"].update(alpha=1.5), "calibration.alpha"),
        (lambda fields: fields["calibration"].update(alpha="0.1"), "calibration.alpha"),
        (lambda fields: fields["calibration"].update(confidence=None), "ltt needs one"),
        (lambda fields: fields["calibration"].update(threshold=-9.0), "gives the threshold"),
        (lambda fields: fields["calibration"].update(n_units=59), "59"),
        (lambda fields: fields.update(calibration=None), "without a calibration record"),
        (lambda fields: fields["probe"].update(hidden_size=5), "hidden_size"),
        (lambda fields: fields["probe"].update(layers=[1, 2]), "probe.safetensors"),
        (lambda fields: fields.update(probe=None), "without its spec"),
        (lambda fields: fields["cues"].update(words=["no"]), "cues.safetensors"),
        (lambda fields: fields["cues"].update(interval=5, words=[]), "cues.safetensors"),
        (lambda fields: fields["files"].pop("probe.safetensors"), "names none"),
        (lambda fields: fields["files"].pop("calibration.safetensors"), "names none"),
        (lambda fields: fields["files"].update({"extra.safetensors": "0" * 64}), "no file of an"),
    ],
)
def test_a_signed_manifest_that_contradicts_itself_or_its_files(
    folder: Path, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    resign(folder, change)
    refused(folder, str(folder), says)


@pytest.mark.parametrize(
    "name",
    ["../a/probe.safetensors", "/etc/passwd", "sub/probe.safetensors", "..", "", "probe.pkl"],
)
def test_a_path_in_files_is_never_followed(folder: Path, name: str) -> None:
    resign(folder, lambda fields: fields["files"].update({name: "0" * 64}))
    refused(folder, str(folder / "manifest.json"), repr(name), "no file of an artifact")


@pytest.mark.parametrize("name", FILES)
def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    refused(folder, str(folder / name), "leads out of its folder")


def test_links_within_the_folder_are_fine(folder: Path) -> None:
    # As in a mounted Kubernetes volume.
    (folder / "..data").mkdir()
    for name in FILES:
        (folder / name).rename(folder / "..data" / name)
        (folder / name).symlink_to(Path("..data") / name)
    assert Artifact.load(folder).probe is not None


def test_a_folder_in_place_of_a_file(folder: Path) -> None:
    (folder / "probe.safetensors").unlink()
    (folder / "probe.safetensors").mkdir()
    refused(folder, str(folder / "probe.safetensors"), "not a regular file")


def test_a_pipe_in_place_of_a_file_does_not_hang(folder: Path) -> None:
    (folder / "probe.safetensors").unlink()
    os.mkfifo(folder / "probe.safetensors")
    refused(folder, str(folder / "probe.safetensors"), "not a regular file")


@pytest.mark.parametrize(
    ("name", "tensors", "says"),
    [
        ("probe.safetensors", {"layer.0.weight": np.zeros((1, 18), "f4")}, "asks for"),
        ("probe.safetensors", {}, "asks for"),
        ("calibration.safetensors", {"worst_scores": np.zeros(60, "f8")}, "float64"),
        ("calibration.safetensors", {"worst_scores": np.full(60, np.nan, "f4")}, "NaN"),
        ("calibration.safetensors", {"worst": np.zeros(60, "f4")}, "without"),
        ("cues.safetensors", {"start": np.zeros(1, np.int32)}, "missing"),
        ("splits.safetensors", {"train": np.zeros(3, "f4")}, "float32"),
    ],
)
def test_signed_tensors_of_the_wrong_kind(
    folder: Path, name: str, tensors: dict[str, np.ndarray], says: str
) -> None:
    retensor(folder, name, tensors)
    refused(folder, str(folder), says)


def test_weights_that_are_not_finite(folder: Path) -> None:
    tensors = load_file(folder / "probe.safetensors")
    tensors["layer.0.bias"] = np.full(1, np.inf, "f4")
    retensor(folder, "probe.safetensors", tensors)
    refused(folder, str(folder / "probe.safetensors"), "NaN or infinity")


def test_cue_tables_that_point_outside(folder: Path) -> None:
    tensors = load_file(folder / "cues.safetensors")
    tensors["transitions"] = tensors["transitions"] + 1000
    retensor(folder, "cues.safetensors", tensors)
    refused(folder, str(folder / "cues.safetensors"), "transitions")


def test_signed_bytes_that_are_no_safetensors(folder: Path) -> None:
    data = b"\xff" * 64
    (folder / "probe.safetensors").write_bytes(data)
    sha = hashlib.sha256(data).hexdigest()
    resign(folder, lambda fields: fields["files"].update({"probe.safetensors": sha}))
    refused(folder, str(folder / "probe.safetensors"), "not a safetensors file")
