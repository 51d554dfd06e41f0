"""Headers, token ids, the estimate, the choice of a server, the clock."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.profile import Histogram
from stopper.errors import InputError
from stopper.service.proxy.headers import to_client, to_engine
from stopper.service.proxy.savings import tokens_saved_estimate
from stopper.service.proxy.servers import EngineServer, choose
from stopper.service.proxy.silence_clock import SilenceClock
from stopper.service.proxy.token_ids import TokenIds
from stopper.service.settings import ProxySettings, Upstream


def test_hop_by_hop_headers_end_at_the_front():
    sent = dict(
        to_engine(
            [
                (b"host", b"a"), (b"connection", b"close, X-Mine"), (b"x-mine", b"1"),
                (b"te", b"trailers"), (b"authorization", b"Bearer k"), (b"content-length", b"3"),
                (b"transfer-encoding", b"chunked"), (b"traceparent", b"00-1"),
                (b"tracestate", b"a=b"), (b"x-request-id", b"theirs"), (b"accept-encoding", b"br"),
                (b"content-type", b"application/json"),
            ],
            "ours",
        )
    )  # fmt: skip
    assert sent == {
        b"traceparent": b"00-1", b"tracestate": b"a=b", b"content-type": b"application/json",
        b"x-request-id": b"ours", b"accept-encoding": b"identity",
    }  # fmt: skip


def test_the_engines_headers_come_back_without_its_connection():
    found = to_client(
        [(b"Date", b"x"), (b"Server", b"uvicorn"), (b"Connection", b"close"), (b"X-A", b"1"),
         (b"X-A", b"2"), (b"Content-Length", b"9")],
        "id-1", 12,
    )  # fmt: skip
    assert found == [
        (b"x-a", b"1"), (b"x-a", b"2"), (b"x-request-id", b"id-1"), (b"content-length", b"12"),
    ]  # fmt: skip
    assert to_client([(b"X-Request-Id", b"own")], "id-1", None) == [(b"x-request-id", b"own")]


def test_ids_are_taken_out_again_and_kept():
    ids = TokenIds()
    first = b'data: {"choices":[{"delta":{"role":"assistant"}}],"prompt_token_ids":[7,8]}\n\n'
    text = b'{"delta":{"content":"\\"token_ids\\":[9]"},"token_ids":[1,2]}'
    only = b'{"delta":{},"logprobs":null,"finish_reason":null,"token_ids":[3]}'
    last = b'{"delta":{},"logprobs":null,"finish_reason":"stop","token_ids":[4]}'
    assert ids.take_from_event(first) == first.replace(b"[7,8]", b"null")
    for choice, kept in ((text, True), (only, False), (last, True)):
        event = b'data: {"choices":[' + choice + b"]}\n\n"
        found = ids.take_from_event(event)
        clean = event.replace(b":[1,2]}", b":null}").replace(b":[4]}", b":null}")
        assert found == (clean if kept else b"")
    assert ids.take_from_event(b"data: [DONE]\n\n") == b"data: [DONE]\n\n"
    assert (ids.prompt, ids.output, ids.complete) == ((7, 8), [1, 2, 3, 4], True)


def test_a_whole_response_gives_its_ids():
    ids = TokenIds()
    text = b'{"choices":[{"text":"a","token_ids":[5, 6],"prompt_token_ids":[1]}],"usage":{}}'
    found = ids.take_from_object(text)
    assert found == text.replace(b"[5, 6]", b"null").replace(b"[1]", b"null")
    assert (ids.prompt, ids.output, ids.complete) == ((1,), [5, 6], True)


@pytest.mark.parametrize(
    "data", [b'{"choices":[{"delta":{"content":"a"},"token_ids":null}]}', b"{garbage"]
)
def test_a_piece_without_ids_is_noticed(data):
    ids = TokenIds()
    assert ids.take_from_event(b"data: " + data + b"\n\n").endswith(data + b"\n\n")
    assert not ids.complete


def test_ids_stay_for_a_client_that_wants_them():
    ids = TokenIds(strip=False)
    event = b'data: {"choices":[{"delta":{},"token_ids":[3]}]}\n\n'
    assert ids.take_from_event(event) == event
    assert ids.output == [3]


LENGTHS = Histogram(edges=(100.0, 200.0, 400.0), counts=(10, 10, 20, 60))


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (0, (10 * 50 + 10 * 150 + 20 * 300 + 60 * 400) / 100),
        (100, (10 * 50 + 20 * 200 + 60 * 300) / 90),
        (300, (10 * 50 + 60 * 100) / 70),
        (400, 0.0),
        (10_000, 0.0),
    ],
)
def test_the_estimate_is_the_mean_rest_of_longer_traces(position, expected):
    assert tokens_saved_estimate(LENGTHS, position) == pytest.approx(expected)


def test_without_an_edge_or_a_longer_trace_there_is_no_estimate():
    assert tokens_saved_estimate(Histogram(edges=(), counts=(5,)), 3) is None
    assert tokens_saved_estimate(Histogram(edges=(10.0,), counts=(5, 0)), 20) is None


@given(st.integers(0, 2**31), st.integers(0, 500))
def test_the_estimate_stays_near_the_traces_own(seed, position):
    lengths = np.random.default_rng(seed).integers(1, 1000, 2000)
    found = tokens_saved_estimate(Histogram.by_quantiles(lengths, 50), position)
    longer = lengths[lengths > position]
    assert found is not None
    assert found == pytest.approx((longer - position).mean(), rel=0.05, abs=12)


def servers(count, **settings):
    return [
        EngineServer(Upstream(url=f"http://e{i}"), ProxySettings(**settings)) for i in range(count)
    ]


def test_the_least_busy_server_of_the_model_is_chosen():
    a, b, c = servers(3)
    a.models, b.models, c.models = {"m": "m"}, {"m": "m"}, {"other": "other"}
    a.running, b.running = 2, 1
    assert choose([a, b, c], "m", []) is b
    assert choose([a, b, c], "m", [b]) is a
    assert choose([a, b, c], "m", [a, b]) is b
    assert choose([a, b, c], "other", []) is c
    c.models = None
    assert choose([a, b, c], "new", []) is c, "it has not told yet and may serve it"
    assert choose([a, b], "new", []) is b, "an engine says best that it does not know a model"


def test_a_breaker_opens_and_tries_again(monkeypatch):
    (server,) = servers(1, breaker_failures=2, breaker_reset_s=5)
    now = 1000.0
    monkeypatch.setattr("purgatory.domain.model.time.time", lambda: now)
    server.failed(OSError())
    server.succeeded()
    server.failed(OSError())
    assert choose([server], "m", []) is server
    server.failed(OSError())
    assert choose([server], "m", []) is None
    assert server.state == "opened"
    now += 6
    assert choose([server], "m", []) is server
    assert server.state == "half-opened"
    server.failed(OSError())
    assert choose([server], "m", []) is None
    now += 6
    assert server.admits()
    server.succeeded()
    assert server.state == "closed"


def test_a_key_file_is_read_and_checked(tmp_path):
    file = tmp_path / "key"
    upstream = Upstream(url="http://e/", api_key_file=file)
    with pytest.raises(InputError, match=r"key: .*API key of http://e"):
        EngineServer(upstream, ProxySettings())
    for wrong in ("", "a b", "a\nb", "ä"):
        file.write_text(wrong)
        with pytest.raises(InputError, match="one API key"):
            EngineServer(upstream, ProxySettings())
    file.write_text("secret\n")
    server = EngineServer(upstream, ProxySettings())
    assert server.url == "http://e"
    assert server.headers("Bearer theirs") == {"authorization": "Bearer secret"}
    assert servers(1)[0].headers("Bearer theirs") == {"authorization": "Bearer theirs"}
    assert servers(1)[0].headers(None) == {}


def test_the_clock_rings_only_for_a_wait_that_lasts_too_long():
    async def run():
        rang = asyncio.Event()
        clock = SilenceClock(rang.set)
        clock.start(30)
        for _ in range(5):
            clock.start(0.05)
            await asyncio.sleep(0.02)
            clock.stop()
        await asyncio.sleep(0.1)
        assert not rang.is_set()
        clock.start(0.03)
        await asyncio.wait_for(rang.wait(), 2)
        assert clock.expired
        other = SilenceClock(rang.clear)
        other.start(0.01)
        other.close()
        await asyncio.sleep(0.03)
        assert not other.expired

    asyncio.run(run())
