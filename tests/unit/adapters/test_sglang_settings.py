"""What SGLang's operator may ask for, and what is refused."""

from __future__ import annotations

import builtins
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from makers import artifact, calibration, fingerprint

from adapters.sglang.plugin import register
from adapters.sglang.settings import block_halting
from adapters.sglang.version import installed_sglang, require_sglang
from stopper.artifact import Artifact, Manifest
from stopper.errors import ArtifactError, InputError, TooFewTraces, UnsupportedError
from stopper.halting import PRESETS, HaltingRule
from stopper.manifest import HaltingSpec, SamplerSpec


def saved(folder: Path, **changes: Any) -> str:
    worst = np.linspace(0, 1, 99, dtype=np.float32)
    sampler = {
        "steps": 32,
        "block_length": 32,
        "canvas_length": 32,
        "order": "confidence",
        "options": {"threshold": 0.95},
    } | changes
    Artifact(
        Manifest(
            created=artifact().manifest.created,
            stopper_version="0.1.0",
            model=fingerprint(),
            halting=HaltingSpec(**HaltingRule().to_json(), sampler=SamplerSpec(**sampler)),
            calibration=calibration(worst, method="crc", confidence=None),
        ),
        worst_scores=worst,
    ).save(folder)
    return str(folder)


def read(stopper: Any, block_size: int = 32, threshold: float = 0.95) -> Any:
    return block_halting({"stopper": stopper}, block_size=block_size, threshold=threshold)


@pytest.mark.parametrize("version", ["0.5.17", "0.5.20", "0.5.22.post1", "0.5.23"])
def test_versions_whose_steps_were_read_are_taken(version: str) -> None:
    require_sglang(version)


@pytest.mark.parametrize("version", ["0.5.16", "0.5.24", "0.6.0", "dev"])
def test_other_versions_are_refused_in_a_sentence(version: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"SGLang {version} .*0\.5\.17 <= version.*install"):
        require_sglang(version)


def test_without_sglang_registering_says_so() -> None:
    if installed_sglang() is None:
        with pytest.raises(UnsupportedError, match="SGLang is not installed"):
            register()
    else:
        register()


def test_nothing_but_the_algorithm_needs_sglang(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def guarded(name: str, *rest: Any) -> Any:
        assert not name.startswith("sglang")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", guarded)
    for name in ("blocks", "settings", "version", "plugin"):
        monkeypatch.delitem(sys.modules, f"adapters.sglang.{name}", raising=False)
        importlib.import_module(f"adapters.sglang.{name}")


def test_an_artifact_gives_the_rule_and_the_level_of_the_alpha(tmp_path: Path) -> None:
    folder = saved(tmp_path / "a")
    own, other = read({"artifact": folder}), read({"artifact": folder, "alpha": 0.5})
    assert own.rule == HaltingRule()
    assert own.level > other.level
    with pytest.raises(TooFewTraces):
        read({"artifact": folder, "alpha": 0.001})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"block_length": 16, "steps": 16}, "block_length is 32, expected 16"),
        ({"order": "entropy"}, "order is 'confidence', expected 'entropy'"),
        ({"options": {"threshold": 0.9}}, "threshold is 0.95, expected 0.9"),
        ({"steps": 8}, "expected another number"),
    ],
    ids=["block", "order", "threshold", "steps"],
)
def test_a_promise_holds_for_its_own_sampler_alone(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ArtifactError, match=words):
        read({"artifact": saved(tmp_path / "a", **changes)})


def test_a_reasoning_artifact_is_refused(tmp_path: Path) -> None:
    artifact().save(tmp_path / "a")
    with pytest.raises(ArtifactError, match="reasoning model"):
        read({"artifact": str(tmp_path / "a")})


def test_a_hand_picked_rule_is_taken_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    found = read({"halting": {"preset": "prophet"}})
    assert found.rule == PRESETS["prophet"]
    assert found.level == 0
    assert "no guarantee" in caplog.text


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (None, "no 'stopper' object"),
        ({}, "either"),
        ({"halting": {}, "artifact": "x"}, "either"),
        ({"halting": {}, "alpha": 0.1}, "keeps none"),
        ({"halting": {"kind": "steep"}}, "steep"),
        ({"artifact": "x", "alpah": 0.1}, "alpah"),
        ({"artifact": "x", "alpha": 2}, "alpha"),
    ],
    ids=["missing", "neither", "both", "alpha", "kind", "unknown", "range"],
)
def test_a_bad_configuration_is_refused_by_name(asked: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(asked)
