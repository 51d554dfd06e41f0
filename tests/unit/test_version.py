"""The version stands in pyproject.toml; whatever else tells one agrees."""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
import yaml

import stopper
from stopper import cli
from stopper.service.app import create_app
from stopper.service.openapi import snapshot
from stopper.service.settings import ServeSettings

ROOT = Path(__file__).parents[2]
ARTIFACT = ROOT / "examples" / "tiny_reasoner" / "artifact"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
STALE = "the installed metadata is old; run `make venv`"


def test_the_installed_package_has_it() -> None:
    assert version("stopper") == VERSION, STALE
    assert stopper.__version__ == VERSION, STALE


def test_it_is_written_as_pip_and_semantic_versioning_both_read_it() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", VERSION)


def test_the_command_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"stopper {VERSION}\n"


async def status() -> dict[str, object]:
    app = create_app(
        ServeSettings(artifacts=[str(ROOT / "examples" / "tiny_reasoner" / "artifact")])
    )
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        found: dict[str, object] = (await client.get("/v1/status")).raise_for_status().json()
        return found


def test_the_service_says_it() -> None:
    assert asyncio.run(status())["version"] == VERSION
    assert json.loads(snapshot())["info"]["version"] == VERSION


def test_the_written_api_description_has_it() -> None:
    document = json.loads((ROOT / "docs" / "openapi.json").read_text())
    remedy = "run: stopper serve --openapi docs/openapi.json"
    assert document["info"]["version"] == VERSION, remedy


def test_the_citation_has_it() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == VERSION


def test_it_heads_the_changes() -> None:
    heads = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heads[0] == VERSION


def test_the_chart_installs_it() -> None:
    chart = yaml.safe_load((ROOT / "deploy" / "helm" / "stopper" / "Chart.yaml").read_text())
    assert chart["appVersion"] == VERSION


@pytest.mark.parametrize(
    "name", ["compose.yaml", "docker/sidecar.Dockerfile", "docker/vllm.Dockerfile"]
)
def test_the_images_are_tagged_with_it(name: str) -> None:
    text = (ROOT / "deploy" / name).read_text()
    tags = re.findall(r"(?:stopper(?:-vllm)?:|ARG VERSION=)(\d\S*)", text)
    assert set(tags) == {VERSION}
