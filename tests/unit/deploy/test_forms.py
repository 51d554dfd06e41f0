"""Forms, workflows, hooks and others that a code host reads: their schemas, and what they name."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_jsonschema import main as check
from click.testing import CliRunner
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[3]
GITHUB = ROOT / ".github"
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
SCHEMAS = {
    "github-issue-forms": [file for file in FORMS if file.name != "config.yml"],
    "github-issue-config": [GITHUB / "ISSUE_TEMPLATE" / "config.yml"],
    "github-workflows": WORKFLOWS,
    "citation-file-format": [ROOT / "CITATION.cff"],
    "compose-spec": [ROOT / "deploy" / "compose.yaml"],
}
CODE_FILES = re.compile(r"[\w./-]+\.(?:md|toml|py|yaml|yml)\b|\.ci/run")


def checked(schema: str, *files: Path) -> tuple[int, str]:
    arguments = ["--builtin-schema", f"vendor.{schema}", *map(str, files)]
    if schema == "citation-file-format":
        arguments = ["--default-filetype", "yaml", *arguments]
    done = CliRunner().invoke(check, arguments)
    return done.exit_code, done.output


def read(file: Path) -> dict[Any, Any]:
    found = yaml.safe_load(file.read_text())
    assert isinstance(found, dict)
    return found


HOOKS = read(ROOT / ".pre-commit-config.yaml")["repos"]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_file_fits_its_schema(schema: str) -> None:
    assert SCHEMAS[schema] != []
    assert checked(schema, *SCHEMAS[schema]) == (0, "ok -- validation done\n")


def test_the_schemas_find_faults(tmp_path: Path) -> None:
    form, workflow = tmp_path / "form.yml", tmp_path / "workflow.yml"
    form.write_text((GITHUB / "ISSUE_TEMPLATE" / "bug.yml").read_text().replace("label:", "lable:"))
    workflow.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "run-on:"))
    assert checked("github-issue-forms", form)[0] == 1
    assert checked("github-workflows", workflow)[0] == 1


def test_the_bug_form_asks_for_the_doctor_and_every_form_has_a_required_field() -> None:
    forms = {file.stem: read(file)["body"] for file in SCHEMAS["github-issue-forms"]}
    assert set(forms) == {"bug", "guarantee", "model"}
    for body in forms.values():
        assert any(field.get("validations", {}).get("required") for field in body)
        ids = [field["id"] for field in body if "id" in field]
        assert len(ids) == len(set(ids))
    assert any("stopper doctor" in str(field) for field in forms["bug"])


@pytest.mark.parametrize(
    "file",
    [*FORMS, *WORKFLOWS, GITHUB / "PULL_REQUEST_TEMPLATE.md", ROOT / ".pre-commit-config.yaml"],
    ids=lambda file: file.name,
)
def test_files_and_targets_that_are_named_exist(file: Path) -> None:
    text = file.read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`|run: )make ([a-z]+)", text):
        assert f"\n{target}:" in makefile, target
    for name in CODE_FILES.findall(text):
        assert (ROOT / name).exists(), name


def test_the_tests_run_on_pythons_that_vllm_and_we_support() -> None:
    job = read(GITHUB / "workflows" / "ci.yml")["jobs"]["test"]
    versions = job["strategy"]["matrix"]["python"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    script = (ROOT / "deploy" / "venv.py").read_text()
    bounds = re.search(r"OLDEST, NEWEST = \((\d+), (\d+)\), \((\d+), (\d+)\)", script)
    assert bounds is not None
    oldest, newest = (int(bounds[1]), int(bounds[2])), (int(bounds[3]), int(bounds[4]))
    assert versions == ["3.11", "3.12", "3.13"]
    for version in versions:
        assert SpecifierSet(project["requires-python"]).contains(version)
        assert oldest <= tuple(map(int, version.split("."))) <= newest
    assert any(".ci/run" in step.get("run", "") for step in job["steps"])


def test_only_publishing_may_ask_for_a_token_and_it_runs_nothing_of_ours() -> None:
    for file in WORKFLOWS:
        workflow = read(file)
        assert workflow["permissions"] == {"contents": "read"}
        for name, job in workflow["jobs"].items():
            assert job.get("permissions") == ({"id-token": "write"} if name == "publish" else None)
            assert "timeout-minutes" in job
            if name == "publish":
                assert not any("run" in step for step in job["steps"])
    assert "secrets." not in "".join(file.read_text() for file in WORKFLOWS)


def test_hooks_fetch_nothing_and_run_what_is_installed_here() -> None:
    assert [repo["repo"] for repo in HOOKS] == ["local"]
    here = Path(sys.executable).parent
    for hook in HOOKS[0]["hooks"]:
        assert hook["language"] == "system"
        program, *arguments = shlex.split(hook["entry"])
        assert program.startswith(".venv/bin/")
        assert (here / program.removeprefix(".venv/bin/")).exists(), program
        for argument in arguments:
            if argument.startswith("tests/"):
                assert (ROOT / argument).exists()


def test_hooks_check_what_make_lint_checks() -> None:
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    asked = set(re.findall(r"\$\(BIN\)/([\w-]+)", recipe[1]))
    hooked = {shlex.split(hook["entry"])[0].rpartition("/")[2] for hook in HOOKS[0]["hooks"]}
    assert asked <= hooked
