"""Slow, large and too many requests, against a real server."""

import asyncio
import contextlib
import json
import logging
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from sidecars import settings

from stopper.service import bodies, front_door, problems
from stopper.service.protocol import HEADER_BYTES, GuardedProtocol
from stopper.service.runtime import Runtime
from tests.servers import Served, serving

pytestmark = pytest.mark.usefixtures("_hasty")

MOST = 200_000
HEADER_S = 0.3
BODY_S = 0.3


def application(**limits: Any) -> tuple[FastAPI, Runtime]:
    """Return an application behind the front door that reads bodies, streams, sleeps and fails."""
    bounds = {"body_bytes": MOST, "body_s": BODY_S, "concurrency": 4, **limits}
    runtime = Runtime.from_settings(settings(limits=bounds))
    app = FastAPI()
    app.state.runtime = runtime
    problems.install(app)

    @app.post("/read/{name}")
    async def read(request: Request, name: str) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.post("/parse")
    async def parse(body: dict[str, Any]) -> int:
        return len(body)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def pieces() -> Any:
            for _ in range(5):
                yield b"piece"
                await asyncio.sleep(0.1)

        return StreamingResponse(pieces())

    @app.get("/fail")
    async def fail() -> None:
        raise RuntimeError("the prompt was: secret")

    @app.get("/readyz")
    async def readyz() -> str:
        return "here"

    front_door.attach(app, runtime)
    return app, runtime


@contextlib.contextmanager
def served(**limits: Any) -> Iterator[tuple[Served, Runtime]]:
    app, runtime = application(**limits)
    with serving(app, http=partial(GuardedProtocol, header_s=HEADER_S)) as server:
        yield server, runtime


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "LINGER_S", 0.2)


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served() as (found, _):
        yield found


def exchange(server: Served, *parts: bytes, pause_s: float = 0.0) -> tuple[bytes, float]:
    """Send parts with pauses, and return all that came until the server closed, and when."""
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), 10) as wire:
        with contextlib.suppress(ConnectionError):
            for part in parts:
                wire.sendall(part)
                time.sleep(pause_s)
        found = b""
        with contextlib.suppress(ConnectionError):
            while piece := wire.recv(65536):
                found += piece
    return found, time.monotonic() - begin


def problem_in(raw: bytes) -> dict[str, Any]:
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    assert b"connection: close" in head.lower()
    found: dict[str, Any] = json.loads(body)
    assert head.split()[1] == str(found["status"]).encode()
    return found


def head(path: str, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", *headers, "", ""]
    return "\r\n".join(lines).encode()


def test_a_connection_that_says_nothing_is_closed(server: Served) -> None:
    raw, took = exchange(server)
    assert raw == b""
    assert HEADER_S <= took < 5


@pytest.mark.parametrize("begin", [b"P", b"POST /read/a HTTP/1.1\r\nHost: x\r\n", b"\r\n"])
def test_headers_that_do_not_end_are_answered_with_408(server: Served, begin: bytes) -> None:
    raw, took = exchange(server, begin, *[b"A: b\r\n" if len(begin) > 2 else b""] * 4, pause_s=0.05)
    assert problem_in(raw)["status"] == 408
    assert took < 5


def test_dripping_headers_after_a_first_request_are_cut_too(server: Served) -> None:
    first = head("/read/a", "Content-Length: 2") + b"ok"
    raw, took = exchange(server, first, b"G", b"E", b"T", pause_s=0.1)
    assert raw.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 408" in raw
    assert took < 4  # of uvicorn's five for a connection without any byte


def test_empty_lines_do_not_keep_a_connection(server: Served) -> None:
    first = head("/read/a", "Content-Length: 2") + b"ok"
    raw, took = exchange(server, first, *[b"\r\n"] * 6, pause_s=0.1)
    assert raw.count(b"HTTP/1.1") == 1
    assert took < 4


def test_a_request_that_waits_behind_a_stream_does_not_break_it(server: Served) -> None:
    raw, _ = exchange(server, b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\nGET", pause_s=0.01)
    assert raw.count(b"piece") == 5
    assert raw.index(b"0\r\n\r\n") < raw.index(b"HTTP/1.1 408")


def test_headers_that_are_too_large_are_refused(server: Served) -> None:
    many = [f"H{number}: {'x' * 1000}\r\n".encode() for number in range(HEADER_BYTES // 900)]
    raw, took = exchange(server, b"GET / HTTP/1.1\r\n", *many)
    assert raw == b"" or problem_in(raw)["status"] == 413  # the answer is lost if we still send
    assert took < HEADER_S


def test_what_is_no_http_is_answered_with_a_problem(server: Served) -> None:
    raw, _ = exchange(server, b"\x16\x03\x01\x02\x00hello\r\n\r\n")
    assert problem_in(raw)["status"] == 400


def test_a_body_that_is_said_to_be_too_large_is_refused_unread(server: Served) -> None:
    raw, took = exchange(server, head("/read/a", f"Content-Length: {100 << 20}"))
    assert problem_in(raw)["type"] == "urn:stopper:problem:too-large"
    assert took < 5


def test_a_hundred_megabytes_are_refused_and_the_client_gets_to_know(server: Served) -> None:
    body = bytes(100 << 20)
    for content in (body, (body[at : at + (1 << 20)] for at in range(0, len(body), 1 << 20))):
        with httpx.Client() as client:
            answer = client.post(f"{server.url}/read/a", content=content)
        assert answer.status_code == 413
        assert answer.json()["detail"].startswith(f"A body may have {MOST} bytes")


@pytest.mark.parametrize("path", ["/read/a", "/parse"])
def test_a_chunked_body_is_cut_at_the_bound(server: Served, path: str) -> None:
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    begin = head(path, "Transfer-Encoding: chunked", "Content-Type: application/json")
    raw, _ = exchange(server, begin, *[chunk] * 4)
    assert problem_in(raw)["status"] == 413


@pytest.mark.parametrize("size", [0, 1, MOST - 1, MOST])
def test_a_body_up_to_the_bound_is_read(server: Served, size: int) -> None:
    pieces = (bytes(part) for part in (size // 2, size - size // 2))
    for content in (bytes(size), pieces):
        answer = httpx.post(f"{server.url}/read/a", content=content)
        assert answer.json() == {"bytes": size}


@pytest.mark.parametrize("path", ["/read/a", "/parse"])
def test_a_body_that_does_not_come_is_answered_with_408(server: Served, path: str) -> None:
    for length in ("Content-Length: 100", "Transfer-Encoding: chunked"):
        begin = head(path, length, "Content-Type: application/json")
        raw, took = exchange(server, begin + b"1\r\n1\r\n")
        assert problem_in(raw)["type"] == "urn:stopper:problem:timeout"
        assert BODY_S <= took < 5


def test_a_body_that_drips_does_not_win_time(server: Served) -> None:
    begin = head("/read/a", "Content-Length: 100")
    raw, took = exchange(server, begin, *[b"."] * 8, pause_s=0.08)
    assert problem_in(raw)["status"] == 408
    assert took < 5


def test_a_long_answer_is_not_bound_by_the_time_for_bodies(server: Served) -> None:
    answer = httpx.request("GET", f"{server.url}/stream", content=b"a body")
    assert answer.content == b"piece" * 5


def test_a_client_that_leaves_within_its_body_is_no_fault(
    server: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 5) as wire:
        wire.sendall(head("/parse", "Content-Length: 100", "Content-Type: application/json"))
        time.sleep(0.05)
    with socket.create_connection(("127.0.0.1", server.port), 5) as wire:
        wire.sendall(head("/read/a", "Content-Length: 100"))
        time.sleep(0.05)
    time.sleep(0.2)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_beyond_the_bound_requests_are_turned_away_but_the_probes_are_answered() -> None:
    with served(concurrency=2) as (server, runtime), ThreadPoolExecutor(2) as pool:
        begun = [pool.submit(httpx.get, f"{server.url}/stream") for _ in range(2)]
        while runtime.in_flight < 2:
            time.sleep(0.01)
        refused = httpx.get(f"{server.url}/stream")
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["content-type"] == "application/problem+json"
        assert httpx.get(f"{server.url}/readyz").status_code == 200
        assert [answer.result().content for answer in begun] == [b"piece" * 5] * 2
        assert httpx.get(f"{server.url}/stream").status_code == 200
        assert runtime.in_flight == 0


def test_on_the_way_out_what_runs_may_end_and_nothing_new_begins() -> None:
    with served() as (server, runtime), ThreadPoolExecutor(1) as pool:
        begun = pool.submit(httpx.get, f"{server.url}/stream")
        while runtime.in_flight < 1:
            time.sleep(0.01)
        runtime.draining = True
        refused = httpx.get(f"{server.url}/stream")
        assert (refused.status_code, refused.headers["connection"]) == (503, "close")
        assert begun.result().content == b"piece" * 5


def test_a_fault_is_a_problem_and_its_words_are_not_logged(
    server: Served, caplog: pytest.LogCaptureFixture
) -> None:
    answer = httpx.get(f"{server.url}/fail")
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:stopper:problem:internal"
    assert "secret" not in answer.text
    assert sum(record.message == "fault in a request" for record in caplog.records) == 1


def test_each_request_is_one_line_without_what_it_said(
    server: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "stopper.requests")
    trace = "0af7651916cd43dd8448eb211c80319c"
    httpx.post(
        f"{server.url}/read/private?token=secret",
        content=b"a prompt",
        headers={
            "traceparent": f"00-{trace}-b7ad6b7169203331-01",
            "Authorization": "Bearer hidden",
        },
    )
    httpx.get(f"{server.url}/nowhere", headers={"traceparent": "00-hidden-b7ad6b7169203331-01"})
    httpx.get(f"{server.url}/readyz")
    deadline = time.monotonic() + 5
    while len(caplog.records) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    told = [record.__dict__.get("request", {}) for record in caplog.records]
    assert all(entry.pop("ms") >= 0 for entry in told)
    assert told[0] == {
        "method": "POST",
        "route": "/read/{name}",
        "status": 200,
        "bytes": 11,
        "trace_id": trace,
    }
    assert (told[1]["route"], told[1]["status"]) == ("(none)", 404)
    assert "trace_id" not in told[1]
    assert caplog.records[2].levelno == logging.DEBUG
    text = str([record.__dict__ for record in caplog.records])
    assert not any(word in text for word in ("secret", "private", "prompt", "hidden"))
