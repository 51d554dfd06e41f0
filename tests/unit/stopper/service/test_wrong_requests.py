"""Nonsense to every route: a problem document, nothing leaked, no fault in the log."""

import asyncio
import json
import logging
from pathlib import Path

import httpx
import pytest
from sidecars import replica, settings

DOCUMENT = json.loads(
    (Path(__file__).resolve().parents[4] / "docs" / "openapi.json").read_text(encoding="utf-8")
)
POSTS = [path for path, found in DOCUMENT["paths"].items() if "requestBody" in str(found)]
JSON = "application/json"
DEEP = b"[" * 200_000
BODIES = [
    pytest.param(b"", JSON, id="nothing"),
    pytest.param(b"{", JSON, id="half"),
    pytest.param(b"\xff\xfe", JSON, id="no UTF-8"),
    pytest.param(b"null", JSON, id="null"),
    pytest.param(b"[]", JSON, id="array"),
    pytest.param(b"NaN", JSON, id="NaN"),
    pytest.param(b'"text"', JSON, id="text"),
    pytest.param(DEEP, JSON, id="deep"),
    pytest.param(b'{"a":' * 200_000, JSON, id="deep objects"),
    pytest.param(b"9" * 100_000, JSON, id="large number"),
    pytest.param(b'{"on": "yes", "surprise": 1}', JSON, id="wrong fields"),
    pytest.param(b'{"on": true, "on": "\\ud800"}', JSON, id="lone surrogate"),
    pytest.param(b"<on>true</on>", "text/xml", id="XML"),
    pytest.param(b"on=true", "application/x-www-form-urlencoded", id="form"),
    pytest.param(b'{"on": true}', "application/jsonp", id="nearly JSON"),
    pytest.param(b'{"on": true}', "", id="no type"),
]


def send(*requests: httpx.Request) -> list[httpx.Response]:
    async def run() -> list[httpx.Response]:
        async with replica(settings()) as (client, _):
            return [await client.send(request) for request in requests]

    return asyncio.run(run())


def check(answer: httpx.Response) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["status"] == answer.status_code
    assert found["type"].startswith("urn:stopper:problem:")
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(("body", "kind"), BODIES)
def test_a_wrong_body_is_a_problem_on_every_route(
    body: bytes, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"Content-Type": kind} if kind else {}
    requests = [
        httpx.Request("POST", f"http://sidecar{path}", content=body, headers=headers)
        for path in POSTS
    ]
    for path, answer in zip(POSTS, send(*requests), strict=True):
        check(answer)
        tags = DOCUMENT["paths"][path]["post"]["tags"]
        front = tags == ["openai"]  # no engine here: 503
        assert 400 <= answer.status_code < 500 or (front and answer.status_code == 503), path
        if kind != JSON and tags == ["admin"]:
            assert answer.status_code == 415, path
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1/../etc/passwd", 404),
        ("GET", "/%00", 404),
        ("POST", "/livez", 405),
        ("GET", "/v1/kill-switch", 405),
        ("DELETE", "/v1/artifacts", 405),
        ("OPTIONS", "/v1/stop-decisions", 405),
        ("TRACE", "/metrics", 405),
        ("PUT", "/metrics", 405),
    ],
)
def test_unknown_routes_and_methods_are_problems(method: str, path: str, status: int) -> None:
    (answer,) = send(httpx.Request(method, f"http://sidecar{path}"))
    assert answer.status_code == status
    if status == 405:
        assert answer.headers["allow"]
    check(answer)


def test_load_balancers_may_ask_by_head() -> None:
    answers = send(*(httpx.Request("HEAD", f"http://sidecar/{p}") for p in ("livez", "readyz")))
    assert [answer.status_code for answer in answers] == [200, 200]


def test_no_route_answers_from_elsewhere_or_tells_of_the_machine() -> None:
    page, readiness, metrics = send(
        *(
            httpx.Request("GET", f"http://sidecar{path}")
            for path in ("/docs", "/readyz", "/metrics")
        )
    )
    assert page.status_code == 404
    here = str(Path(__file__).resolve().parents[4])
    assert here not in readiness.text
    assert here not in metrics.text
