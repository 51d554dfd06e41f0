"""Engines and clients that fail: what the front makes of it."""

from __future__ import annotations

import json
import socket
import time

import httpx
import pytest
from front_servers import (
    BODIES,
    CHAT,
    FAULT,
    RESPONSES,
    STREAM,
    engine,
    script,
    sidecar,
    timeless,
    without_report,
)

from tests.servers import free_port, until

QUICK = {"first_byte_s": 1.0, "idle_s": 0.6, "connect_s": 1.0}


@pytest.fixture(scope="module")
def one():
    with engine() as made, sidecar(made.url, proxy=QUICK) as front:
        yield made, front


@pytest.fixture(autouse=True)
def healed(request):
    yield
    if "one" in request.fixturenames:
        _, front = request.getfixturevalue("one")
        front.client.post(CHAT, json=BODIES[CHAT]).raise_for_status()  # closes the breaker


def stream_of(front, fault, body=STREAM, path=CHAT):
    """Return what came, and the error it ended with."""
    got = b""
    try:
        with front.client.stream("POST", path, json=body, headers={FAULT: fault}) as answer:
            assert answer.status_code == 200, answer.read()
            for chunk in answer.iter_raw():
                got += chunk
    except httpx.TransportError as error:
        return got, error
    return got, None


def whole_stream(made):
    return timeless(httpx.post(made.url + CHAT, json=STREAM).content)


def same_start(made, got):
    """Whether bytes are the beginning of the stream, up to times and ids."""
    start = lambda text: timeless(text).replace(text.split(b'"', 4)[3], b"id")  # noqa: E731
    return start(httpx.post(made.url + CHAT, json=STREAM).content).startswith(start(got))


@pytest.mark.parametrize("fault", ["close; after=3", "half_close; after=3", "hang; after=3"])
def test_a_stream_that_breaks_off_is_broken_off_for_the_client(one, fault):
    made, front = one
    got, error = stream_of(front, fault)
    assert isinstance(error, httpx.RemoteProtocolError)
    events = got.split(b"\n\n")
    assert len(events) == 4
    assert events[-1] == b""
    assert same_start(made, got)
    assert b"stopper" not in got
    until(lambda: front.client.get("/readyz").json()["parts"]["upstreams"][0]["running"] == 0, "0")


def test_a_stream_without_done_still_carries_the_report(one):
    _, front = one
    got, error = stream_of(front, "no_done")
    assert error is None
    last = got.rstrip().rpartition(b"data: ")[2]
    assert json.loads(last)["stopper"]["decision"] == "stopped"
    assert b"[DONE]" not in got


@pytest.mark.parametrize(
    "fault",
    [
        "garbage; after=2",
        "huge_chunk; after=2; bytes=3000000",
        "slow_drip; after=1; bytes=9000; seconds=0.001",
    ],
)
def test_strange_bytes_pass_unchanged(one, fault):
    made, front = one
    headers = {FAULT: fault, "X-Request-Id": "same"}
    straight = httpx.post(made.url + CHAT, json=STREAM, headers=headers)
    through = front.client.post(CHAT, json=STREAM, headers=headers)
    clean, reports = without_report(through.content)
    assert reports == 1
    assert timeless(clean) == timeless(straight.content)


def test_a_dripping_stream_is_whole_and_keeps_its_report(one):
    _, front = one
    body = STREAM | {"max_tokens": 2}
    got, error = stream_of(front, "slow_drip; bytes=40; seconds=0.001", body)
    assert error is None
    assert without_report(got)[1] == 1


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        ("close; after=0", 502, "upstream-failed"),
        ("close; after=1", 502, "upstream-failed"),
        ("wrong_length", 502, "upstream-failed"),
        ("delay; seconds=30", 504, "upstream-timeout"),
        ("hang; after=1", 504, "upstream-timeout"),
    ],
)
def test_a_whole_response_that_does_not_come_is_a_problem(one, fault, status, kind):
    made, front = one
    before = len(made.seen(CHAT))
    answer = front.client.post(CHAT, json=BODIES[CHAT], headers={FAULT: fault})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"urn:stopper:problem:{kind}"
    assert len(made.seen(CHAT)) == before + 1, "what may have been begun is not sent again"


def test_a_stream_that_never_begins_is_a_problem(one):
    _, front = one
    answer = front.client.post(CHAT, json=STREAM, headers={FAULT: "hang; after=0"})
    assert answer.status_code == 504
    assert "1 s" in answer.json()["detail"]


@pytest.mark.parametrize("code", [400, 401, 404, 422, 429, 500, 502, 503])
def test_the_engines_own_errors_pass_unchanged(one, code):
    made, front = one
    before = len(made.seen(CHAT))
    fault = {FAULT: f"status; code={code}; retry_after=7"}
    answer = front.client.post(CHAT, json=BODIES[CHAT], headers=fault)
    assert answer.status_code == code
    assert answer.headers["retry-after"] == "7"
    assert answer.content == httpx.post(made.url + CHAT, json=BODIES[CHAT], headers=fault).content
    assert len(made.seen(CHAT)) == before + 2, "there is no other engine, and 7 s are long"


def test_a_refusal_is_retried_where_the_engine_asks_for_a_moment(one):
    made, front = one
    fault = {FAULT: "status; code=503; retry_after=0; times=2"}
    before = len(made.seen(CHAT))
    answer = front.client.post(CHAT, json=BODIES[CHAT], headers=fault)
    assert answer.status_code == 200
    assert len(made.seen(CHAT)) == before + 3


def test_a_refusing_engine_is_replaced_by_another_at_once():
    with engine() as a, engine() as b, sidecar(a.url, b.url) as front:
        front.client.get("/v1/models")
        for code in (503, 429):
            fault = {FAULT: f"status; code={code}; retry_after=60; times=1"}
            answer = front.client.post(CHAT, json=BODIES[CHAT], headers=fault)
            # Each refuses once and wants a minute before it is asked again.
            assert answer.status_code == code
        assert (len(a.seen(CHAT)), len(b.seen(CHAT))) == (2, 2)
        put = {"kind": "status", "code": 503, "retry_after": 60}
        httpx.put(a.url + "/scripted/fault", json=put).raise_for_status()
        for _ in range(3):
            assert front.client.post(CHAT, json=BODIES[CHAT]).status_code == 200
        assert len(b.seen(CHAT)) == 5


def test_an_engine_that_is_away_is_replaced_and_then_left_alone():
    away = f"http://127.0.0.1:{free_port()}"
    with engine() as made, sidecar(away, made.url, proxy={"breaker_failures": 2}) as front:
        for _ in range(4):
            assert front.client.post(CHAT, json=BODIES[CHAT]).status_code == 200
        parts = front.client.get("/readyz").json()["parts"]["upstreams"]
        assert [part["models"] for part in parts] == [None, 1]


def test_with_every_engine_away_the_breaker_opens_and_says_so():
    away = f"http://127.0.0.1:{free_port()}"
    proxy = {"breaker_failures": 4, "breaker_reset_s": 0.3, "retries": 1}
    with sidecar(away, proxy=proxy) as front:
        for _ in range(2):
            answer = front.client.post(CHAT, json=BODIES[CHAT])
            assert (answer.status_code, answer.json()["title"]) == (502, "The engine failed")
            assert away not in answer.text
        answer = front.client.post(CHAT, json=BODIES[CHAT])
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        time.sleep(0.35)
        assert front.client.post(CHAT, json=BODIES[CHAT]).status_code == 502
        assert front.client.get("/v1/models").status_code == 502
        assert front.client.post("/v1/requests/a/stop-thinking").status_code == 502
        until(lambda: front.client.get("/readyz").status_code == 503, "unready")
        assert front.client.get("/readyz").json()["unready"]["upstreams"]


def test_an_engine_that_does_not_accept_is_a_timeout():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        # The queue of an engine that hangs is full: new connections get no answer.
        with socket.create_connection(address), socket.socket() as more:
            more.setblocking(False)
            more.connect_ex(address)
            url = f"http://127.0.0.1:{address[1]}"
            with sidecar(url, proxy={"connect_s": 0.2, "retries": 0}) as front:
                answer = front.client.post(CHAT, json=BODIES[CHAT])
                assert (answer.status_code, answer.json()["status"]) == (504, 504)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", [CHAT, RESPONSES])
def test_a_client_that_leaves_ends_the_request_on_the_engine_at_once(path, stream):
    with engine(script(token_delay_ms=50.0)) as made, sidecar(made.url) as front:
        body = json.dumps(BODIES[path] | {"stream": stream}).encode()
        host, port = front.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            head = (
                f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            client.sendall(head.encode() + body)
            if stream:
                assert client.recv(100).startswith(b"HTTP/1.1 200")
            until(lambda: made.seen(path) and made.app.engine.running == 1, "the request")
        left = time.monotonic()
        until(lambda: made.seen(path)[0].client_left, "the engine to hear of it")
        assert time.monotonic() - left < 1.0
        assert made.app.engine.running == 0
        until(
            lambda: front.client.get("/readyz").json()["parts"]["upstreams"][0]["running"] == 0,
            "the count",
        )
        assert not [seen for seen in made.log if seen.path.startswith("/stopper/")]


def test_a_slow_report_does_not_hold_the_response(monkeypatch):
    with engine() as made, sidecar(made.url, proxy={"report_s": 0.2}) as front:
        # In the engine's own loop: it answers nothing meanwhile.
        monkeypatch.setattr(type(made.app.engine), "decision", lambda *_: time.sleep(1))
        found = front.client.post(CHAT, json=BODIES[CHAT]).json()["stopper"]
        assert (found["decision"], found["reason"]) == ("unknown", "report_timeout")


@pytest.mark.parametrize(
    ("told", "reason"), [(None, "not_known_to_engine"), ({"decision": 1}, "report_failed")]
)
def test_a_report_that_is_none_is_unknown(one, monkeypatch, told, reason):
    made, front = one
    monkeypatch.setattr(type(made.app.engine), "decision", lambda *_: told)
    found = front.client.post(CHAT, json=BODIES[CHAT]).json()["stopper"]
    assert (found["decision"], found["reason"]) == ("unknown", reason)


def test_a_large_body_arrives(one):
    made, front = one
    body = BODIES[CHAT] | {"padding": "x" * (3 << 20)}
    assert front.client.post(CHAT, json=body, timeout=30).status_code == 200
    assert len(made.seen(CHAT)[-1].body["padding"]) == 3 << 20
