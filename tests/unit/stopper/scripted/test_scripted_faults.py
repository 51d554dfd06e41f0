"""Faults reach the client as they are scripted, and the log tells who left."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from stopper.errors import UnsupportedError
from stopper.scripted import Fault, create_app, default_script, serving

BODY = {"messages": [{"role": "user", "content": "What is the capital of Australia?"}]}
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with serving() as url, httpx.Client(base_url=url, timeout=5) as client:
        yield client


def ask(http: httpx.Client, fault: str | None, *, stream: bool = True, **options: Any) -> Any:
    headers = {} if fault is None else {"X-Scripted-Fault": fault}
    return http.post(CHAT, json={**BODY, "stream": stream}, headers=headers, **options)


def last_seen(http: httpx.Client) -> dict[str, Any]:
    seen: dict[str, Any] = http.get("/scripted/log").json()["requests"][-1]
    return seen


both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@both
def test_a_status_comes_with_its_retry_after(http: httpx.Client, stream: bool) -> None:
    found = ask(http, "status; code=429; retry_after=2", stream=stream)
    assert (found.status_code, found.headers["retry-after"]) == (429, "2")
    assert ask(http, "status; code=503", stream=stream).status_code == 503


@both
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("close", "without sending a response"),
        ("close; after=2", "without sending complete message body"),
        ("half_close; after=2", "without sending complete message body"),
        ("wrong_length; by=10", "without sending complete message body"),
    ],
)
def test_a_broken_connection_breaks(
    http: httpx.Client, stream: bool, fault: str, said: str
) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match=said):
        ask(http, fault, stream=stream)
    assert last_seen(http)["client_left"] is False
    assert ask(http, None).status_code == 200


def test_a_body_longer_than_it_says_is_cut(http: httpx.Client) -> None:
    whole = ask(http, None).content
    assert len(ask(http, "wrong_length; by=-20").content) < len(whole)


@both
def test_garbage_comes_in_between(http: httpx.Client, stream: bool) -> None:
    found = ask(http, "garbage; after=1", stream=stream)
    assert b"\xff\xfe" in found.content
    assert found.content.endswith(b"[DONE]\n\n" if stream else b"}")


def test_a_stream_ends_without_its_end(http: httpx.Client) -> None:
    found = ask(http, "no_done")
    assert b"[DONE]" not in found.content
    assert b'"finish_reason":"stop"' in found.content


@both
def test_a_huge_chunk_is_huge(http: httpx.Client, stream: bool) -> None:
    found = ask(http, "huge_chunk; bytes=300000", stream=stream)
    assert len(found.content) > 300_000
    if not stream:
        assert found.json()["choices"][0]["finish_reason"] == "stop"


@both
def test_a_delay_delays_and_a_drip_drips(http: httpx.Client, stream: bool) -> None:
    begun = time.monotonic()
    plain = ask(http, "delay; seconds=0.2", stream=stream)
    assert time.monotonic() - begun >= 0.2
    assert plain.status_code == 200
    begun = time.monotonic()
    dripped = ask(http, "slow_drip; bytes=100; seconds=0.005", stream=stream)
    assert time.monotonic() - begun >= 0.005 * len(plain.content) / 100
    assert len(dripped.content) == len(plain.content)


@pytest.mark.parametrize("fault", ["hang", "hang; after=2"])
def test_a_hung_request_ends_when_its_client_leaves(http: httpx.Client, fault: str) -> None:
    with pytest.raises(httpx.ReadTimeout):
        ask(http, fault, timeout=0.2)
    deadline = time.monotonic() + 5
    while not (seen := last_seen(http))["client_left"]:
        assert time.monotonic() < deadline
    assert seen["fault"] == "hang"
    assert 'num_requests_running{model_name="scripted"} 0' in http.get("/metrics").text


def test_a_client_that_leaves_midway_is_noted() -> None:
    script = default_script().model_copy(update={"token_delay_ms": 20.0})
    app = create_app(script)
    with serving(app) as url:
        with httpx.stream("POST", url + CHAT, json={**BODY, "stream": True}) as stream:
            next(stream.iter_bytes())
        deadline = time.monotonic() + 5
        while not app.engine.log[-1].client_left:
            assert time.monotonic() < deadline
    seen = app.engine.log[-1]
    assert (seen.finished, seen.status, seen.trace) == (False, 200, "capital")
    record = app.engine.decisions(1)[0]
    assert record["running"] is False
    assert record["decision"] == "not_stopped"


def test_the_log_has_headers_and_bodies_and_can_be_cleared(http: httpx.Client) -> None:
    http.post(CHAT, json=BODY, headers={"traceparent": "00-ab-cd-01"})
    seen = last_seen(http)
    assert seen["headers"]["traceparent"] == "00-ab-cd-01"
    assert seen["body"] == BODY
    assert seen["finished"] is True
    assert http.delete("/scripted/log").json()["forgotten"] > 0
    assert http.get("/scripted/log").json() == {"requests": []}


def test_a_fault_for_all_comes_and_goes(http: httpx.Client) -> None:
    assert http.put("/scripted/fault", json={"kind": "status", "code": 503}).status_code == 200
    assert [ask(http, None).status_code for _ in range(2)] == [503, 503]
    assert http.delete("/scripted/fault").status_code == 204
    assert ask(http, None).status_code == 200
    assert http.put("/scripted/fault", json={"kind": "tired"}).status_code == 400


def test_a_trace_has_its_own_fault() -> None:
    traces = list(default_script().traces)
    traces[1] = traces[1].model_copy(update={"fault": Fault(kind="status", code=500, times=1)})
    with serving(default_script().model_copy(update={"traces": tuple(traces)})) as url:
        statuses = [httpx.post(url + CHAT, json=BODY).status_code for _ in range(2)]
    assert statuses == [500, 200]


def test_a_bad_fault_header_is_refused(http: httpx.Client) -> None:
    found = ask(http, "close; soon=1")
    assert found.status_code == 400
    assert "X-Scripted-Fault: soon" in found.json()["error"]["message"]


def test_a_broken_connection_needs_one() -> None:
    from starlette.testclient import TestClient

    with pytest.raises(UnsupportedError, match="real server"):
        TestClient(create_app()).post(CHAT, json=BODY, headers={"X-Scripted-Fault": "close"})


def test_after_a_half_close_our_side_stays_open() -> None:
    with serving() as url:
        host, port = url.removeprefix("http://").split(":")
        body = b'{"messages":[{"role":"user","content":"capital"}],"stream":true}'
        head = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"x-scripted-fault: half_close; after=1\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        with socket.create_connection((host, int(port)), 5) as connection:
            connection.sendall(head + body)
            got = b""
            while part := connection.recv(65536):
                got += part
            assert b"assistant" in got
            connection.sendall(b"still here")  # no reset: the other side has closed only half
            connection.settimeout(0.2)
            assert connection.recv(1) == b""
