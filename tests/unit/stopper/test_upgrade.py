"""An artifact of an older schema is read, and rewritten without changing its promise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import makers
import numpy as np
import pytest

from calibration.store_files import read_meta
from stopper import cli, folders
from stopper.artifact import TENSORS, Artifact, read_manifest
from stopper.errors import InputError
from stopper.manifest import SCHEMA_VERSION
from stopper.upgrading import upgrade

Capture = pytest.CaptureFixture[str]

FROZEN = Path(__file__).parent / "data" / "artifact_v1"
"""Made by the code of schema 1: train and calibrate on a small store; never rewritten."""


def run(*argv: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main([str(part) for part in argv])
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FROZEN, tmp_path / "old"))


def test_schema_1_is_read_as_it_is() -> None:
    loaded = Artifact.load(FROZEN)
    manifest = loaded.manifest
    assert manifest.schema_version == 1
    assert manifest.calibration is not None
    assert (manifest.calibration.rule, manifest.calibration.parameters) == ("level", {})
    assert (manifest.comparer, manifest.profile) == (None, None)
    assert (manifest.libraries, manifest.engine) == ({}, {})
    assert set(loaded.splits) == {"train", "calibrate", "test"}


def test_upgrade_adds_what_is_known_and_names_what_is_not(old: Path, capsys: Capture) -> None:
    before = Artifact.load(old)
    (old / "report.html").write_text("mine")
    assert run("upgrade", old) == 0
    said = capsys.readouterr().out
    assert f"schema 1 -> {SCHEMA_VERSION}" in said
    assert "added    engine: vllm 0.32.0" in said
    for name in ("libraries: versions", "comparer", "profile", "prompt hashes of the splits"):
        assert f"unknown  {name}" in said
    after = Artifact.load(old)
    assert after.manifest.schema_version == SCHEMA_VERSION
    assert after.manifest.engine == before.manifest.training["engine"]
    assert after.manifest.libraries == {"stopper": "0.1.0", "vllm": "0.32.0"}
    changed = {"schema_version", "engine", "libraries"}
    fields, older = (made.manifest.model_dump() for made in (after, before))
    assert {name for name in fields if fields[name] != older[name]} == changed
    # The promise and all that it rests on are the same to the byte.
    for name in TENSORS:
        assert (old / name).read_bytes() == (FROZEN / name).read_bytes()
    assert (old / "report.html").read_text() == "mine"
    assert run("upgrade", old) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_upgrading_fails_whole(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "_write", full_disk)
    with pytest.raises(OSError, match="No space left"):
        upgrade(Artifact.load(old)).artifact.save(old)
    assert read_manifest(old).schema_version == 1
    assert Artifact.load(old).worst_scores is not None


def test_an_artifact_of_scores_lacks_less(tmp_path: Path) -> None:
    made = makers.artifact(
        model=None, probe=None, cues=None, closing=None, training={}, schema_version=1
    )
    found = upgrade(made)
    assert [phrase.split(":")[0] for phrase in found.unknown] == ["engine", "libraries", "profile"]
    found.artifact.save(tmp_path / "a")
    assert Artifact.load(tmp_path / "a").manifest.libraries == {"stopper": "0.1.0"}
    np.testing.assert_array_equal(found.artifact.worst_scores, made.worst_scores)


@pytest.mark.parametrize(("version", "says"), [(99, "newer stopper"), (0, "`stopper train`")])
def test_schemas_out_of_reach_are_refused_with_the_remedy(
    old: Path, capsys: Capture, version: int, says: str
) -> None:
    fields = json.loads((old / "manifest.json").read_text())
    (old / "manifest.json").write_text(json.dumps(fields | {"schema_version": version}))
    for argv in (["upgrade", old], ["inspect", old], ["diff", old, FROZEN]):
        assert run(*argv) == 2
        said = capsys.readouterr().err
        assert f"schema {version}" in said and says in said
    if version == 99:
        assert "pip install --upgrade stopper" in said


# The trace store's meta.


def test_a_meta_without_the_newer_fields_is_read_and_a_newer_one_refused(tmp_path: Path) -> None:
    folder = makers.store(tmp_path / "s", makers.records(2))
    path = folder / "meta.json"
    fields = json.loads(path.read_text())
    del fields["comparer"]
    path.write_text(json.dumps(fields))
    assert read_meta(folder).comparer == "auto"
    path.write_text(json.dumps(fields | {"schema_version": 2, "novelty": [1]}))
    with pytest.raises(InputError, match=r"meta\.json: schema 2.*newer stopper") as caught:
        read_meta(folder)
    assert "pip install --upgrade stopper" in str(caught.value)
    assert "novelty" not in str(caught.value)
