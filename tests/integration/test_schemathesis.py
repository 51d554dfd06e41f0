"""The whole OpenAPI against a real sidecar with a scripted engine behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from stopper import scripted
from stopper.context import split
from stopper.service.app import create_app
from stopper.service.protocol import GuardedProtocol
from stopper.service.settings import ArtifactSource, ScheduleSettings, ServeSettings
from tests.servers import serving

ROOT = Path(__file__).resolve().parents[2]
ARTIFACT = ROOT / "examples" / "tiny_reasoner" / "artifact"
CHECKED = [
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
]


MODEL = "scripted"  # the scripted engine's
EXAMPLES = 60
PATIENCE_S = 120.0  # with one answer, however busy the machine is


def known_models(part: Any) -> None:
    """Let every body name the model that is served: what lies behind the name is wanted."""
    if isinstance(part, dict):
        model = part.get("properties", {}).get("model")
        if isinstance(model, dict):
            model.pop("anyOf", None)
            model.update({"type": "string", "enum": [MODEL]})
        for inner in part.values():
            known_models(inner)
    elif isinstance(part, list):
        for inner in part:
            known_models(inner)


def without_keys(document: dict[str, Any]) -> None:
    """Take the keys out: the sidecar runs without, and tests of their own see to them."""
    for operations in document["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)


DOCUMENT = json.loads((ROOT / "docs" / "openapi.json").read_text())


@pytest.fixture(scope="module")
def schema() -> Iterator[Any]:
    split("Load. It.")  # spaCy, outside the patience for a server's start
    with scripted.serving(scripted.default_script()) as engine:
        chosen = ServeSettings.read(
            artifacts=[ArtifactSource(folder=ARTIFACT, model=MODEL)],
            upstreams=[engine],
            schedule=ScheduleSettings(),
            context={"enabled": True, "scorer": "overlap"},
        )
        http = partial(GuardedProtocol, header_s=10.0)
        with serving(create_app(chosen), http=http) as server:
            document = httpx.get(f"{server.url}/openapi.json").json()
            assert document == DOCUMENT
            known_models(document)
            without_keys(document)
            found = schemathesis.openapi.from_dict(document)
            found.config.update(base_url=server.url)
            yield found


def examples_of(part: dict[str, Any] | None) -> list[Any]:
    """Return the JSON examples of a body: beside its schema, or the record's own."""
    content = (part or {}).get("content", {}).get("application/json")
    if content is None:
        return []
    named = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    record = DOCUMENT["components"]["schemas"].get(named, {})
    found = [content[key] for key in ("example",) if key in content]
    found += [one["value"] for one in content.get("examples", {}).values()]
    return found or [record[key] for key in ("example",) if key in record]


def with_model(part: Any) -> Any:
    if isinstance(part, dict):
        return {
            key: MODEL if key == "model" and value else with_model(value)
            for key, value in part.items()
        }
    return [with_model(inner) for inner in part] if isinstance(part, list) else part


CASES = [
    pytest.param(path, method, mode, id=f"{mode.value}-{method}-{path}")
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
    for mode in GenerationMode
    # Without a body and parameters nothing about a request can be wrong.
    if mode is GenerationMode.POSITIVE or {"requestBody", "parameters"} & operation.keys()
]


@pytest.mark.parametrize(("path", "method", "mode"), CASES)
def test_no_answer_breaks_the_document(
    schema: Any, path: str, method: str, mode: GenerationMode
) -> None:
    @seed(20261124)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[path][method].as_strategy(mode))
    def holds(case: Any) -> None:
        answer = case.call(timeout=PATIENCE_S)
        # A batch is answered event by event: 200, with a problem for each that is wrong.
        rejects = [] if path == "/v1/stop-decisions" else [negative_data_rejection]
        case.validate_response(answer, checks=CHECKED + rejects)
        if answer.status_code >= 500:
            assert case.operation.tags == ["openai"]
            assert answer.status_code in (502, 503, 504)

    holds()


TOLD = [
    pytest.param(path, example, id=path)
    for path, operations in DOCUMENT["paths"].items()
    for operation in operations.values()
    for example in examples_of(operation.get("requestBody"))
]


@pytest.mark.parametrize(("path", "example"), TOLD)
def test_every_example_of_a_body_is_understood(
    schema: Any, path: str, example: dict[str, Any]
) -> None:
    answer = httpx.post(schema.config.base_url + path, json=with_model(example))
    nothing_there = {  # no alarm stands, nothing was replaced, the folder is one only there
        "/v1/alarm/re-arm": 409,
        "/v1/artifacts/rollback": 409,
        "/v1/artifacts/load": 422,
        "/v1/stop-decisions": 422,  # a probe of its own size
    }
    assert answer.status_code in {200, 202, nothing_there.get(path, 200)}, answer.text


def test_there_are_examples_of_all_bodies() -> None:
    posts = {path for path, found in DOCUMENT["paths"].items() if "requestBody" in str(found)}
    assert {parameter.id for parameter in TOLD} == posts
