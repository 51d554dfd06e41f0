import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stopper.cli import build_app
from stopper.service.openapi import TAGS, snapshot
from stopper.service.problems import MEDIA_TYPE, TITLES

FILE = Path(__file__).resolve().parents[4] / "docs" / "openapi.json"
DOCUMENT = json.loads(FILE.read_text())
OPERATIONS = [
    pytest.param(operation, id=f"{method}-{path}")
    for path, found in DOCUMENT["paths"].items()
    for method, operation in found.items()
]
every_operation = pytest.mark.parametrize("operation", OPERATIONS)


def test_the_committed_document_is_what_this_code_serves() -> None:
    assert FILE.read_text() == snapshot(), "run: stopper serve --openapi docs/openapi.json"


def test_the_command_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOPPER_PORT", "nonsense")
    file = tmp_path / "openapi.json"
    done = CliRunner().invoke(build_app(), ["serve", "--openapi", str(file)])
    assert done.exit_code == 0
    assert file.read_text() == FILE.read_text()


def has_example(content: dict[str, Any]) -> bool:
    named = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    record = DOCUMENT["components"]["schemas"].get(named, {})
    return bool({"example", "examples"} & (content.keys() | record.keys()))


@every_operation
def test_every_operation_has_a_tag_a_summary_an_id_and_examples(operation: dict[str, Any]) -> None:
    assert set(operation["tags"]) <= TAGS.keys()
    assert operation["summary"]
    assert operation["operationId"]
    bodies = [operation["requestBody"]] if "requestBody" in operation else []
    bodies += [found for code, found in operation["responses"].items() if code[0] == "2"]
    for body in bodies:
        content = body.get("content", {}).get("application/json")
        if content is not None and "Status" not in str(content):  # too long for an example
            assert has_example(content)


@every_operation
def test_every_operation_declares_its_problems(operation: dict[str, Any]) -> None:
    declared = {
        int(code)
        for code, found in operation["responses"].items()
        if MEDIA_TYPE in found.get("content", {})
    }
    wanted = {400, 500}
    if "security" in operation:
        wanted |= {401, 403, 404, 409, 429, 503}
    if "requestBody" in operation:
        wanted |= {408, 413, 415, 422}
    if operation["tags"] == ["openai"]:
        wanted |= {502, 504}
    assert wanted <= declared
    assert declared <= {status for status, _ in TITLES.values()}


def test_only_the_probes_are_open() -> None:
    opened = {
        path
        for path, found in DOCUMENT["paths"].items()
        for operation in found.values()
        if operation.get("security") != [{"key": []}]
    }
    assert opened == {"/livez", "/readyz"}


def test_operation_ids_are_unique() -> None:
    ids = [parameter.values[0]["operationId"] for parameter in OPERATIONS]  # type: ignore[index]
    assert len(ids) == len(set(ids))
