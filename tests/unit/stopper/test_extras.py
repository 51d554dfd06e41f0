"""A module that is not installed is named together with the extra that brings it."""

from __future__ import annotations

import ast
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from stopper import cli
from stopper.extras import extra_of, remedy

ROOT = Path(__file__).parents[3]
PACKAGES = ("adapters", "stopper", "calibration", "probes")
REQUIRED = {  # by pyproject.toml itself, or by a requirement whose objects we hand on
    "anyio", "huggingface_hub", "numpy", "packaging", "pydantic", "rich", "safetensors", "scipy",
    "starlette", "tokenizers", "tqdm", "typer", "yarl",
}  # fmt: skip
ENGINES = {"vllm", "sglang"}


def imported() -> set[str]:
    """Return the modules of others that our packages import, at the top or within a function."""
    found: set[str] = set()
    for file in (file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
    return {name.split(".")[0] for name in found} - sys.stdlib_module_names - set(PACKAGES)


def test_whatever_is_imported_comes_with_the_package_an_extra_or_an_engine() -> None:
    optional = imported() - REQUIRED - ENGINES
    assert {"sklearn", "torch", "uvicorn"} < optional
    assert {name for name in optional if extra_of(name) is None} == set()


@pytest.mark.parametrize(
    ("module", "extra"),
    [("uvicorn.config", "serve"), ("sklearn", "calibrate"), ("pysbd", "rag"), ("torch", "vllm")],
)
def test_the_extra_is_named(module: str, extra: str) -> None:
    said = remedy(ModuleNotFoundError(name=module))
    assert said is not None
    assert f"`pip install 'stopper[{extra}]'`" in said
    assert module.split(".")[0] in said


@pytest.mark.parametrize("module", ["numpy", "schemathesis", "no_such_module", ""])
def test_what_no_extra_of_users_brings_has_no_remedy(module: str) -> None:
    assert remedy(ModuleNotFoundError(name=module)) is None


def lacking() -> None:
    raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")


def broken() -> None:
    raise ModuleNotFoundError("No module named 'no_such_module'", name="no_such_module")


def test_a_command_that_lacks_an_extra_ends_with_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    found = [EntryPoint(name, f"test_extras:{name}", cli.GROUP) for name in ("lacking", "broken")]
    monkeypatch.setattr(cli, "entry_points", lambda group: found if group == cli.GROUP else [])
    with pytest.raises(SystemExit) as caught:
        cli.main(["lacking"])
    assert caught.value.code == 2
    said = "this command needs uvicorn; install it with `pip install 'stopper[serve]'`"
    assert capsys.readouterr().err == f"stopper: error: {said}\n"
    with pytest.raises(ModuleNotFoundError):  # a bug keeps its traceback
        cli.main(["broken"])
